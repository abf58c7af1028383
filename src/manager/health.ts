import { FirectlError } from "../core/errors.ts";
import { redactForeign } from "../core/redact.ts";
import { readStatus } from "../guest/control-drive.ts";
import { HealthState } from "../guest/gen/firectl/agent/v1/control_fields.ts";
import type { Health } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { printable } from "../guest/printable.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { HealthStatus, WaitForHealthOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { endSeen, timeOf } from "./exit-report.ts";
import { GuestWatch } from "./guest-watch.ts";
import { requireState } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** As many results as the agent keeps, and as much of each one's output: more is no honest guest's. */
const LOG_RESULTS = 5;
const OUTPUT_LENGTH = 512;
/** How much of it an error quotes. */
const QUOTED_LENGTH = 200;

const STATES: Readonly<Record<HealthState, HealthStatus>> = {
  [HealthState.UNSPECIFIED]: "none",
  [HealthState.STARTING]: "starting",
  [HealthState.HEALTHY]: "healthy",
  [HealthState.UNHEALTHY]: "unhealthy",
};

/** What a guest says of its workload's health: a claim, and only shown. */
export interface HealthReport {
  readonly status: HealthStatus;
  /** Failures since the last success. */
  readonly failingStreak: number;
  /** The last checks, oldest first. */
  readonly log: readonly {
    /** RFC 3339. */
    readonly start: string | undefined;
    readonly end: string | undefined;
    /** -1 when the check ran out of time or could not be started. */
    readonly exitCode: number;
    readonly output: string;
  }[];
}

/** The health of a VM with a health check as its guest last told it; undefined before its first word. */
export async function readHealth(context: Context, record: VmRecord): Promise<HealthReport | undefined> {
  if (record.workload?.healthCheck === undefined || record.process === null) return undefined;
  const file = vmPathsOf(context.directories, record.id).controlDrive;
  await using watch = await GuestWatch.open(file, record.process);
  const status = await readStatus(watch.drive);
  return status?.health === undefined ? undefined : reportOf(status.health);
}

/** Waits until the health check says `wanted`. @throws FirectlError as {@link FirectlOperations.waitForHealth}. */
export async function waitForHealth(
  context: Context,
  record: VmRecord,
  options: WaitForHealthOptions & { readonly wanted: "healthy" | "unhealthy" },
): Promise<void> {
  const { wanted } = options;
  if (record.workload?.healthCheck === undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `${record.name} has no health check to wait for`, {
      hint: "give it one when it is run: --health-cmd COMMAND",
    });
  }
  requireState(record, "wait for the health of", ["running"]);
  const vmm = record.process;
  if (vmm === null) throw new FirectlError("WRONG_STATE", `${record.name} has no VMM`);
  await using watch = await GuestWatch.open(vmPathsOf(context.directories, record.id).controlDrive, vmm);
  const outcome = await watch.until((sighting): "reached" | FirectlError | undefined => {
    const end = endSeen(sighting);
    if (end !== undefined) {
      return new FirectlError(
        "UNHEALTHY",
        `${record.name} ended with ${end.exitCode} before it was ${wanted}`,
        {
          hint: `firectl logs ${record.name} shows what it printed`,
        },
      );
    }
    const { status } = sighting;
    const health = status?.health === undefined ? undefined : reportOf(status.health);
    if (health?.status === wanted) return "reached";
    if (health?.status !== "unhealthy" || !(options.rejectUnhealthy ?? false)) return undefined;
    return new FirectlError("UNHEALTHY", `${record.name} is unhealthy: ${lastCheck(health)}`, {
      hint: `firectl inspect -f '{{json .health}}' ${record.name} shows its last checks`,
    });
  }, options.signal);
  if (outcome !== "reached") throw outcome;
}

/** How the last check went, in one line. */
export function lastCheck({ log }: Pick<HealthReport, "log">): string {
  const last = log.at(-1);
  if (last === undefined) return "its checks have failed";
  const how =
    last.exitCode < 0
      ? "its check took too long or could not be run"
      : `its check ended with ${last.exitCode}`;
  const said = redactForeign(printable(last.output)).trim().replaceAll(/\s+/g, " ");
  if (said === "") return `${how} and printed nothing`;
  return `${how}: ${said.length > QUOTED_LENGTH ? `${said.slice(0, QUOTED_LENGTH)}…` : said}`;
}

function reportOf(health: Health): HealthReport {
  return {
    status: STATES[health.state] ?? "none",
    failingStreak: health.failingStreak,
    log: health.log.slice(-LOG_RESULTS).map((result) => ({
      start: timeOf(result.startedAtUnixNs),
      end: timeOf(result.finishedAtUnixNs),
      exitCode: result.exitCode,
      output: result.output.slice(0, OUTPUT_LENGTH),
    })),
  };
}
