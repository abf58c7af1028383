import { readWhole } from "./contents.ts";
import { type DiskInode, FLAG_ENCRYPTED, FLAG_EXTENTS, FLAG_INLINE_DATA } from "./inode.ts";
import type { Volume } from "./volume.ts";

/** PATH_MAX of Linux, which counts a NUL at the end. */
const MAX_TARGET_BYTES = 4095;
const I_BLOCK_BYTES = 60;
const NOT_FAST = FLAG_EXTENTS | FLAG_INLINE_DATA | FLAG_ENCRYPTED;

/**
 * A symlink's target, bytes in a latin1 string. Up to 59 bytes stand in i_block.
 * @throws FirectlError DISK_INVALID naming the inode.
 */
export function readLink(volume: Volume, inode: DiskInode): string {
  const isFast = inode.size < I_BLOCK_BYTES && (inode.flags & NOT_FAST) === 0;
  const bytes = isFast ? inode.iBlock.subarray(0, inode.size) : readWhole(volume, inode, MAX_TARGET_BYTES);
  if (bytes.length === 0 || bytes.includes(0)) {
    throw volume.invalid(`inode ${inode.number}: the symlink's target is empty or has a NUL in it`);
  }
  return bytes.toString("latin1");
}
