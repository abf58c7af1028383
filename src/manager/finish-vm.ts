import { open, rm } from "node:fs/promises";
import { errnoOf } from "../core/errors.ts";
import { readStatus } from "../guest/control-drive.ts";
import type { VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { SIGKILL } from "../guest/signals.ts";
import { awaitVmmStatus } from "../host/supervise.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { destroyVm, killProcesses, writeOutVolumes } from "./destroy-vm.ts";
import { endOf } from "./exit-report.ts";
import { changeRecord, isVmmAlive, livesNow } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/**
 * Brings the record of a VM whose VMM has ended up to date: how its workload did, and nothing left of its
 * processes and sockets. A VM to be removed at its end is removed. Safe to call twice and by several
 * processes; does nothing while the VMM lives.
 * Returns the record as it now stands, undefined when it is gone.
 */
export async function finishVm(context: Context, record: VmRecord): Promise<VmRecord | undefined> {
  if (record.state !== "running" || isVmmAlive(record)) return record;
  const current = (await context.vms.read()).find(({ id }) => id === record.id);
  // Somebody else may have finished it meanwhile and started it again: the processes are not these any more.
  if (current === undefined || current.state !== "running" || isVmmAlive(current)) return current;
  if (current.autoRemove) {
    await destroyVm(context, record.id, (latest) => latest.state === "running" && !isVmmAlive(latest));
    return undefined;
  }
  return endVm(context, current);
}

/**
 * {@link finishVm} for a VM whose VMM was killed because its user wanted it to end and the guest did not, or not in
 * time: it has exited, by SIGKILL, as a container has that docker kills. `dead` are those that nobody killed.
 */
export async function finishKilledVm(context: Context, record: VmRecord): Promise<void> {
  // Whoever waits for the VM may have seen its end first, and knows no more than that.
  await finishVm(context, record);
  await changeRecord(context.vms, record.id, (current) =>
    current.state === "dead" && current.startedAt === record.startedAt
      ? { ...current, state: "exited", exitSignal: SIGKILL, error: null }
      : undefined,
  );
}

/** Ends a VM if it still runs, and puts on record how its workload did. Its disk and its logs stay. */
export async function endVm(context: Context, record: VmRecord): Promise<VmRecord | undefined> {
  const paths = vmPathsOf(context.directories, record.id);
  const vmmStatus = record.workload === null ? await vmmStatusOf(context, record) : undefined;
  await writeOutVolumes(context, record);
  await killProcesses(paths);
  const end =
    record.workload === null ? endOfConfiguredVm(vmmStatus) : endOf(await lastStatus(paths.controlDrive));
  await rm(paths.runtimeDirectory, { recursive: true, force: true });
  return changeRecord(context.vms, record.id, (current) =>
    (current.state === "running" || current.state === "creating") && !isVmmAlive(current)
      ? { ...current, ...end, firecrackerPid: null, process: null, companions: [], owner: null }
      : undefined,
  );
}

/** What the guest has said last on its control drive; undefined where there is none. */
export async function lastStatus(controlDrive: string): Promise<VmStatus | undefined> {
  try {
    await using drive = await open(controlDrive, "r");
    return await readStatus(drive);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The exit status of a VMM that has ended; undefined where its supervisor cannot tell. */
export async function vmmStatusOf(context: Context, record: VmRecord): Promise<number | undefined> {
  const { runtimeDirectory } = vmPathsOf(context.directories, record.id);
  const [supervisor] = record.companions;
  return awaitVmmStatus(runtimeDirectory, () => !isVmmAlive(record) && livesNow(record, supervisor ?? null));
}

/** A VM made from a Firecracker configuration has no agent: its VMM's exit status is all there is. */
export function endOfConfiguredVm(vmmStatus: number | undefined): ReturnType<typeof endOf> {
  if (vmmStatus === undefined || vmmStatus > 128) return endOf(undefined);
  return {
    state: "exited",
    exitCode: vmmStatus,
    exitSignal: null,
    oomKilled: false,
    error: null,
    finishedAt: new Date().toISOString(),
  };
}
