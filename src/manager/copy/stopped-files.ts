import { findInView } from "../../rootfs/overlay/walk.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";
import { inSlices, openView, pauseAfterSlices, refuseStarted, rootDisksOf, volumesOf } from "../export-vm.ts";
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
    async *read(path, { followLinks }) {
      const text = Buffer.from(lookedUp(path), "utf8").toString("latin1");
      const pause = pauseAfterSlices(signal);
      const finding = findInView(view, text, followLinks || path.isDirectory);
      let step = finding.next();
      for (; step.done !== true; step = finding.next()) await pause();
      const atEnd = () => refuseStarted(context, record, "copied from");
      yield* inSlices(step.value.contents(), { signal, atEnd });
    },
    [Symbol.dispose]() {
      for (const volume of volumesOf(view)) volume[Symbol.dispose]();
    },
  };
}
