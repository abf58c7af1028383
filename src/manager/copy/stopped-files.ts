import { findInView, type Named } from "../../rootfs/overlay/walk.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";
import { inSlices, openView, refuseStarted, rootDisksOf, volumesOf } from "../export-vm.ts";
import type { GuestFiles } from "./guest-files.ts";
import { lookedUp } from "./placement.ts";

/** The files of a VM that does not run, from its disks. */
export function stoppedFiles(
  context: Context,
  record: VmRecord,
  signal: AbortSignal | undefined,
): GuestFiles & Disposable {
  const disks = rootDisksOf(record);
  const view = openView(disks, disks.own);
  return {
    read(path, { followLinks }) {
      const text = Buffer.from(lookedUp(path), "utf8").toString("latin1");
      const named: Named = findInView(view, text, followLinks || path.isDirectory);
      const atEnd = () => refuseStarted(context, record, "copied from");
      return inSlices(named.contents(), { signal, atEnd });
    },
    [Symbol.dispose]() {
      for (const volume of volumesOf(view)) volume[Symbol.dispose]();
    },
  };
}
