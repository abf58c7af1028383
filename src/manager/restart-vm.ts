import { FirectlError } from "../core/errors.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { RestartOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { requireState } from "./records.ts";
import { requireImage, startVm } from "./start-vm.ts";
import { stopVm } from "./stop-vm.ts";

/**
 * Stops a VM if it runs, and starts it again on the disk that it left. One to be removed at its end is that again
 * from its start on: in between it stays, also when it cannot be started.
 * @throws FirectlError as `stopVm` and `startVm`.
 */
export async function restartVm(context: Context, record: VmRecord, options: RestartOptions): Promise<void> {
  requireState(record, "restart", ["running", "exited", "dead"]);
  requireImage(record);
  if (record.state === "running") await stopVm(context, record, { ...options, keep: true });
  const stopped = (await context.vms.read()).find(({ id }) => id === record.id);
  if (stopped === undefined) throw new FirectlError("VM_NOT_FOUND", `${record.name} has been removed`);
  await using _started = await startVm(context, stopped, {
    ...options,
    detach: true,
    autoRemove: record.autoRemove,
  });
}
