import { writeFile } from "node:fs/promises";
import { ioError } from "../host/files.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { finishVm } from "./finish-vm.ts";
import { changeRecord } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/**
 * Makes a VM of this process's one that belongs to nobody: its supervisor attends to its end from now on.
 * @throws FirectlError IO_FAILED.
 */
export async function detachVm(context: Context, record: VmRecord): Promise<void> {
  const { detachedMark } = vmPathsOf(context.directories, record.id);
  // First the supervisor's mark: an end right after it is then seen by somebody, and twice does no harm.
  try {
    await writeFile(detachedMark, "");
  } catch (error) {
    throw ioError(`cannot write ${detachedMark}`, error);
  }
  const detached = await changeRecord(context.vms, record.id, (current) => ({
    ...current,
    attached: false,
    owner: null,
  }));
  if (detached !== undefined) await finishVm(context, detached);
}
