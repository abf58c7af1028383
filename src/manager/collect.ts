import type { LocalImage, StoredImage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { type BaseFile, basesOf, removeBases } from "./base-files.ts";
import { baseKeyOf } from "./base-image.ts";
import type { Context } from "./context.ts";
import { isBeingMade, unrecordedVms } from "./image-usage.ts";

/** Why files that VMs may use cannot be judged now; empty when they can. */
export async function reasonsToWait(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly string[]> {
  const making = records.filter(isBeingMade).map(({ name }) => name);
  const unrecorded = await unrecordedVms(context, records);
  return [
    ...(making.length === 0
      ? []
      : [`filesystems and caches stay while VMs are being made (${making.join(", ")})`]),
    ...(unrecorded.length === 0
      ? []
      : [
          `filesystems and caches stay: ${context.directories.data}/rootfs has disks of VMs that are not on record (${unrecorded.join(", ")})`,
        ]),
  ];
}

/**
 * Removes the finished filesystems that belong to none of `images` and to no VM. The caller holds the records
 * and has the store alone: a pull puts its filesystem here before the index names its image.
 */
export function removeUnusedBases(
  context: Context,
  keep: {
    readonly images: readonly LocalImage[];
    readonly records: readonly VmRecord[];
    /** Those written since then stay. */
    readonly untilMs?: number | undefined;
  },
): Promise<readonly BaseFile[]> {
  const keys = new Set(keep.images.map((image) => baseKeyOf(image)));
  const inUse = basesOf(keep.records);
  return removeBases(
    context,
    ({ path, key, modifiedMs }) =>
      keys.has(key ?? "") || inUse.has(path) || modifiedMs >= (keep.untilMs ?? Number.POSITIVE_INFINITY),
  );
}

/** The images themselves. */
export function imagesIn(stored: readonly StoredImage[]): readonly LocalImage[] {
  return stored.map(({ image }) => image);
}
