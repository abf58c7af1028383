import { runsOf } from "./block-map.ts";
import type { DiskInode } from "./inode.ts";
import type { Volume } from "./volume.ts";

/**
 * All of a small file whose data is in blocks, holes as zeros: a symlink's target, an attribute's value.
 * @throws FirectlError DISK_INVALID when it is longer than `limit` bytes.
 */
export function readMapped(volume: Volume, inode: DiskInode, limit: number): Buffer {
  refuseLonger(volume, inode, limit);
  const { blockSize } = volume.superblock;
  const total = Math.ceil(inode.size / blockSize);
  const whole = Buffer.alloc(total * blockSize);
  for (const { logical, physical, count } of runsOf(volume, inode)) {
    if (logical >= total) break;
    const end = Math.min(logical + count, total);
    volume.readBlocks(physical, whole.subarray(logical * blockSize, end * blockSize));
  }
  return whole.subarray(0, inode.size);
}

/** @throws FirectlError DISK_INVALID when the inode holds more than `limit` bytes. */
export function refuseLonger(volume: Volume, inode: DiskInode, limit: number): void {
  if (inode.size <= limit) return;
  throw volume.invalid(`inode ${inode.number}: ${inode.size} bytes where at most ${limit} can be`);
}
