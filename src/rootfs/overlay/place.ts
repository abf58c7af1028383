import type { OnBlocks } from "../ext4-reader/block-map.ts";
import { deviceOf } from "../ext4-reader/device.ts";
import { entriesOf } from "../ext4-reader/directory.ts";
import { type DiskInode, TYPE_CHARACTER_DEVICE, TYPE_DIRECTORY, typeOf } from "../ext4-reader/inode.ts";
import type { Volume } from "../ext4-reader/volume.ts";

/** An inode of one of the layers. */
export interface Place {
  readonly volume: Volume;
  readonly inode: DiskInode;
}

export function isDirectory({ inode }: Place): boolean {
  return typeOf(inode) === TYPE_DIRECTORY;
}

/** Whether overlayfs takes it for the mark of a removed name: a character device 0:0. */
export function isWhiteout({ inode }: Place): boolean {
  if (typeOf(inode) !== TYPE_CHARACTER_DEVICE) return false;
  const { major, minor } = deviceOf(inode);
  return major === 0 && minor === 0;
}

/**
 * A directory's names and their inodes.
 * @param options.room How many names there may be.
 * @param options.onBlocks As of `entriesOf`.
 * @throws FirectlError DISK_INVALID, also when a name is there twice.
 */
export function namesIn(
  { volume, inode }: Place,
  options: { readonly room?: number; readonly onBlocks?: OnBlocks } = {},
): Map<string, number> {
  const names = new Map<string, number>();
  const { room = Number.POSITIVE_INFINITY, onBlocks } = options;
  for (const entry of entriesOf(volume, inode, onBlocks)) {
    if (names.has(entry.name)) {
      const name = JSON.stringify(Buffer.from(entry.name, "latin1").toString("utf8"));
      throw volume.invalid(`inode ${inode.number}: the directory has the name ${name} twice`);
    }
    if (names.size >= room)
      throw volume.invalid(`inode ${inode.number}: more names than can be held in memory`);
    names.set(entry.name, entry.inode);
  }
  return names;
}
