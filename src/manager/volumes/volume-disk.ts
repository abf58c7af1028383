import { entriesOf } from "../../rootfs/ext4-reader/directory.ts";
import { openFilesystem } from "../../rootfs/ext4-reader/filesystem.ts";
import { readInode } from "../../rootfs/ext4-reader/inode.ts";
import { ROOT_INODE } from "../../rootfs/ext4-reader/superblock.ts";
import { Volume } from "../../rootfs/ext4-reader/volume.ts";
import { VOLUME_DATA } from "./volume-store.ts";

/** Whether a guest must write to the disk before anyone can read it: its last user had its power cut. */
export function needsRecovery(disk: string): boolean {
  using volume = Volume.open(disk);
  return volume.superblock.needsRecovery;
}

/**
 * Whether the volume on a disk has nothing in it yet; nobody may be writing to it.
 * @throws FirectlError DISK_INVALID when a guest has made something of it that is no filesystem of ours.
 */
export function isEmptyVolume(disk: string): boolean {
  using volume = openFilesystem(disk);
  for (const { name, inode } of entriesOf(volume, readInode(volume, ROOT_INODE))) {
    if (name !== VOLUME_DATA) continue;
    const [first] = entriesOf(volume, readInode(volume, inode));
    return first === undefined;
  }
  return false;
}
