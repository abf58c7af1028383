import { FirectlError } from "../core/errors.ts";
import { parseSignal } from "../guest/signals.ts";
import { isAlive, signalProcess } from "../host/process-identity.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { StopOptions } from "./api.ts";
import { askConfiguredVmToStop } from "./configured-vm.ts";
import type { Context } from "./context.ts";
import { destroyVm, killProcesses } from "./destroy-vm.ts";
import { endSeen } from "./exit-report.ts";
import { finishKilledVm, finishVm } from "./finish-vm.ts";
import { connectGuest, noAgent } from "./guest-access.ts";
import { GuestWatch } from "./guest-watch.ts";
import { changeRecord, isVmmAlive, requireState } from "./records.ts";
import { waitForVmmEnd } from "./settle-vm.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** From the guest's SIGKILL of the workload to its reboot. */
const AFTER_GRACE_MS = 5_000;

/**
 * Stops a VM: the stop signal to its workload, then a kill when that takes longer than the timeout. Then
 * everything of it is removed, or with `keep` brought to rest for `start`.
 */
export async function stopVm(context: Context, record: VmRecord, options: StopOptions): Promise<void> {
  const stopSignal = stopSignalOf(record, options);
  requireState(record, "stop", ["running", "exited", "dead"]);
  const keep = options.keep ?? false;
  if (keep) await markAsKept(context, record);
  const killed = record.state === "running" && (await endGuest(context, record, stopSignal, options));
  if (keep) await (killed ? finishKilledVm : finishVm)(context, record);
  else await destroyVm(context, record.id, undefined, { keepVolumes: !record.autoRemove });
}

/**
 * A VM that is kept is not removed at its end, whatever was said when it was started; on record before that
 * end, for which others wait, too.
 */
async function markAsKept(context: Context, record: VmRecord): Promise<void> {
  await changeRecord(context.vms, record.id, (current) => ({
    ...current,
    autoRemove: false,
    attached: false,
  }));
}

/** 0 leaves the choice to the guest, which knows the VM's own. */
function stopSignalOf(record: VmRecord, { stopSignal }: StopOptions): number {
  if (stopSignal === undefined) return 0;
  const number = parseSignal(stopSignal);
  if (record.workload === null) throw noAgent(record.name, stopSignal, `firectl stop ${record.name}`);
  return number;
}

/** Returns whether the VMM had to be killed. */
async function endGuest(
  context: Context,
  record: VmRecord,
  stopSignal: number,
  options: StopOptions,
): Promise<boolean> {
  const paths = vmPathsOf(context.directories, record.id);
  // From here on this process attends to the VM's end: the supervisor would only do the same work again.
  // Without an agent, though, nobody else can tell how the VM ended.
  const [supervisor] = record.companions;
  if (supervisor !== undefined && record.workload !== null) signalProcess(supervisor, "SIGKILL");
  const graceMs = options.timeoutMs ?? record.stopTimeoutMs;
  const asked =
    record.workload === null
      ? await askConfiguredVmToStop(record)
      : await askGuestToStop(record, { graceMs, stopSignal, signal: options.signal });
  const isKept = options.keep ?? false;
  let killed = false;
  if (!asked) killed = isVmmAlive(record);
  // Nobody needs the guest's sync of a disk that is about to be removed.
  else if (record.workload !== null && !isKept) await waitForWorkloadEnd(context, record, graceMs);
  else {
    // Without an agent nobody in the guest ends it when the time is over.
    const timeoutMs = record.workload === null ? graceMs : graceMs + AFTER_GRACE_MS;
    killed = !(await waitForVmmEnd(context, record, { timeoutMs }));
  }
  await killProcesses(paths);
  return killed;
}

/** Returns whether the guest took the request; a guest that cannot be asked is killed without grace. */
async function askGuestToStop(
  record: VmRecord,
  options: { graceMs: number; stopSignal: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  using guest = connectGuest(record);
  try {
    await guest.shutdown({ signal: options.stopSignal, graceMs: options.graceMs });
    return true;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof FirectlError) return false;
    throw error;
  }
}

async function waitForWorkloadEnd(context: Context, record: VmRecord, graceMs: number): Promise<void> {
  const { process } = record;
  if (process === null || !isAlive(process)) return;
  const { controlDrive } = vmPathsOf(context.directories, record.id);
  await using watch = await GuestWatch.open(controlDrive, process);
  const deadline = AbortSignal.timeout(graceMs + AFTER_GRACE_MS);
  const ended = watch.until(endSeen, deadline);
  await ended.catch((error: unknown) => {
    if (!deadline.aborted) throw error;
  });
}
