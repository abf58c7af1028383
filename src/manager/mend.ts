import { removeStaleProbe } from "../firecracker/probe.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { sweepUnfinishedBases } from "./base-files.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { endVm, finishVm } from "./finish-vm.ts";
import { sweepKernelWork } from "./kernels.ts";
import { mendingOf } from "./mending.ts";

/** Mends records that are not true any more, and sweeps up after firectls that were killed. */
export async function mend(context: Context, stale: readonly VmRecord[]): Promise<void> {
  for (const record of stale) await mendOne(context, record);
  // A killed builder leaves more than its VM's own files.
  if (stale.some(({ state }) => state === "creating")) await sweep(context);
}

async function mendOne(context: Context, record: VmRecord): Promise<void> {
  // Judged again under the lock: somebody may have mended it, or it may have come to life, meanwhile.
  switch (mendingOf(record)) {
    case "none":
      return;
    case "finish":
      await finishVm(context, record);
      return;
    case "end":
      await endVm(context, record);
      return;
    case "destroy":
      await destroyVm(context, record.id, (current) => mendingOf(current) === "destroy");
      return;
  }
}

async function sweep(context: Context): Promise<void> {
  await sweepUnfinishedBases(context);
  await sweepKernelWork(context);
  await removeStaleProbe(context.directories.runtime);
  await (await context.images()).mend();
  const { VolumeStore } = await import("./volumes/volume-store.ts");
  await new VolumeStore(context.directories.data).sweep();
}
