import { runsOf } from "./block-map.ts";
import type { DiskInode } from "./inode.ts";
import type { Volume } from "./volume.ts";

/** Blocks that the map of a small file may take beyond those of its data. */
const SPARE_BLOCKS = 64;

/**
 * All of a small file whose data is in blocks, holes as zeros: a symlink's target, an attribute's value.
 * @throws FirectlError DISK_INVALID when it is longer than `limit` bytes, or its map than any such file's.
 */
export function readMapped(volume: Volume, inode: DiskInode, limit: number): Buffer {
  refuseLonger(volume, inode, limit);
  const { blockSize } = volume.superblock;
  const total = Math.ceil(inode.size / blockSize);
  const whole = Buffer.alloc(total * blockSize);
  const most = SPARE_BLOCKS + Math.ceil(limit / blockSize);
  let taken = 0;
  // A tree of nodes, or extents that were never written, would be gone through for nothing.
  const onBlocks = (count: number) => {
    taken += count;
    if (taken > most)
      throw volume.invalid(`inode ${inode.number}: ${inode.size} bytes in more than ${most} blocks`);
  };
  for (const { logical, physical, count } of runsOf(volume, inode, onBlocks)) {
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
