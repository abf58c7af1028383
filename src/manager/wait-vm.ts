import { FirectlError } from "../core/errors.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ExitReport } from "./api.ts";
import type { Context } from "./context.ts";
import { endSeen, exitReportOf } from "./exit-report.ts";
import { endOfConfiguredVm, finishVm, vmmStatusOf } from "./finish-vm.ts";
import { GuestWatch } from "./guest-watch.ts";
import { settleEndedVm, waitForVmmEnd } from "./settle-vm.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** A VMM without an agent may run for ever. */
const FOR_EVER_MS = Number.POSITIVE_INFINITY;

/** Waits until a VM's workload has ended and its record says so; answers at once for one that has. */
export async function waitForVm(
  context: Context,
  record: VmRecord,
  options: { signal?: AbortSignal },
): Promise<ExitReport> {
  if (record.state === "exited" || record.state === "dead") return exitReportOf(record);
  if (record.state !== "running" || record.process === null) {
    throw new FirectlError("WRONG_STATE", `cannot wait for ${record.name}: it is ${record.state}`);
  }
  if (record.workload === null) {
    await waitForVmmEnd(context, record, { timeoutMs: FOR_EVER_MS, signal: options.signal });
    // Before what follows removes it, with --rm.
    const end = endOfConfiguredVm(await vmmStatusOf(context, record));
    await finishVm(context, record);
    return exitReportOf(end);
  }
  await using watch = await GuestWatch.open(
    vmPathsOf(context.directories, record.id).controlDrive,
    record.process,
  );
  const end = await watch.until(endSeen, options.signal);
  // Only then is the record what was waited for: `wait` and then `rm` must work.
  await settleEndedVm(context, record);
  return exitReportOf(end);
}
