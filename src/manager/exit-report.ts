import { Phase } from "../guest/gen/firectl/agent/v1/control_fields.ts";
import type { Exit, VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { signalName } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ExitReport } from "./api.ts";

/** SIGKILL's exit status, as docker reports a container that ended without a word. */
const KILLED = 137;

/** Text from the guest is bounded before it is put on record. */
const MAX_ERROR_LENGTH = 1024;

/** `status` if it says that the workload has ended, or never began. */
export function endedStatus(status: VmStatus | undefined): VmStatus | undefined {
  return status?.phase === Phase.EXITED || status?.phase === Phase.FAILED ? status : undefined;
}

/** Whether the guest says that its workload has begun. */
export function hasStarted(status: VmStatus | undefined): boolean {
  return status?.phase === Phase.RUNNING || status?.phase === Phase.EXITED;
}

/** What goes on record of a workload's end: the guest's own account, or that it gave none. */
export function endOf(
  status: VmStatus | undefined,
): Pick<VmRecord, "state" | "exitCode" | "exitSignal" | "oomKilled" | "error" | "finishedAt"> {
  const ended = endedStatus(status);
  if (ended === undefined) {
    return {
      state: "dead",
      exitCode: KILLED,
      exitSignal: null,
      oomKilled: false,
      error: status?.error
        ? status.error.slice(0, MAX_ERROR_LENGTH)
        : "the VMM ended before the guest said how its workload did",
      finishedAt: new Date().toISOString(),
    };
  }
  return {
    state: "exited",
    exitCode: exitCodeOf(ended.exit),
    exitSignal: ended.exit?.signal ? Math.min(ended.exit.signal, 255) : null,
    oomKilled: ended.exit?.oomKilled ?? false,
    error: ended.error === "" ? null : ended.error.slice(0, MAX_ERROR_LENGTH),
    finishedAt: timeOf(ended.finishedAtUnixNs) ?? new Date().toISOString(),
  };
}

/** {@link endOf} once the guest has told of an end, or its VMM has ended without a word; undefined until then. */
export function endSeen(sighting: {
  readonly status: VmStatus | undefined;
  readonly vmmAlive: boolean;
}): ReturnType<typeof endOf> | undefined {
  const { status, vmmAlive } = sighting;
  return vmmAlive && endedStatus(status) === undefined ? undefined : endOf(status);
}

/** How the workload of a record that has ended did. */
export function exitReportOf(
  record: Pick<VmRecord, "exitCode" | "exitSignal" | "oomKilled" | "error">,
): ExitReport {
  return {
    exitCode: record.exitCode ?? KILLED,
    ...(record.exitSignal === null ? {} : { signal: signalName(record.exitSignal) }),
    oomKilled: record.oomKilled,
    ...(record.error === null ? {} : { error: record.error }),
  };
}

/** RFC 3339 of a guest's clock, undefined for "never" and for times that no calendar holds. */
export function timeOf(unixNs: bigint): string | undefined {
  if (unixNs <= 0n) return undefined;
  const date = new Date(Number(unixNs / 1_000_000n));
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

function exitCodeOf(exit: Exit | undefined): number {
  return exit === undefined || exit.code > 255 ? KILLED : exit.code;
}
