import path from "node:path";
import { type Digest, digestHex } from "../core/brands.ts";
import { namesIn } from "../host/files.ts";
import type { StoredImage } from "../image/images.ts";
import { mayMean } from "../image/select-image.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";

/**
 * The VMs that use an image: those made from it, under whatever name, and those being made that may be about
 * to use it: which image and filesystem they got, their records say only once they run.
 */
export function usersOf(stored: StoredImage, records: readonly VmRecord[]): readonly VmRecord[] {
  return records.filter((record) =>
    record.imageDigest === null
      ? isBeingMade(record) && mayMean(stored, record.imageName)
      : record.imageDigest === stored.image.manifestDigest,
  );
}

/** Whether the record does not say yet which files the VM uses. */
export function isBeingMade({ state, machine, configPath }: VmRecord): boolean {
  return state === "creating" && machine === null && configPath === null;
}

/**
 * Ids of VMs whose disks are there without a record: `vms.json` was set aside as unreadable, or several
 * configurations share one data directory. Nobody knows what they use.
 */
export async function unrecordedVms(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly string[]> {
  const directory = path.join(context.directories.data, "rootfs");
  const names = await namesIn(directory);
  const known = new Set(records.map(({ id }) => id));
  return names.flatMap((name) => {
    const id = /^([0-9a-f-]{36})\.ext4$/.exec(name)?.[1];
    return id === undefined || known.has(id) ? [] : [id];
  });
}

/** The 64 digits of every blob that belongs to an image. */
export function blobsOf({ image, entry }: StoredImage): ReadonlySet<string> {
  const digests: Digest[] = [
    entry.digest,
    image.manifestDigest,
    image.configDigest,
    ...image.layers.map(({ digest }) => digest),
    ...(entry.ociForm === undefined ? [] : [entry.ociForm.digest]),
  ];
  return new Set(digests.map(digestHex));
}
