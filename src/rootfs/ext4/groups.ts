import {
  BLOCK_SIZE,
  BLOCKS_PER_GROUP,
  DESCRIPTORS_PER_BLOCK,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  GROUP_INODE_ZEROED,
  type GroupFields,
  INODES_PER_BLOCK,
  MAX_BLOCKS,
  MAX_INODES_PER_GROUP,
} from "./format.ts";
import type { Run } from "./inodes.ts";
import type { Space } from "./space.ts";
import type { NumberedTree } from "./tree.ts";

/** The disk that was asked for is too small: `needed` blocks are taken. */
export class DiskTooSmallError extends Error {
  override readonly name = "DiskTooSmallError";
  readonly needed: number;
  constructor(needed: number) {
    super(`the filesystem needs ${needed} blocks`);
    this.needed = needed;
  }
}

/** What the groups' placement depends on beside the space taken so far. */
export interface GroupOptions {
  /** Inodes in use, the filesystem's own ones included. */
  readonly inodeCount: number;
  /** Blocks kept for the group descriptors, from block 1 on. */
  readonly descriptorBlocks: number;
  /** Size of a writable disk in blocks; undefined for one with no room to spare. */
  readonly sizeBlocks: number | undefined;
}

/** The block groups, and what they leave free. */
export interface GroupPlacement {
  readonly blocks: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  /** First block of the inode tables, which follow one another. */
  readonly inodeTable: number;
  readonly groups: readonly GroupFields[];
  /** What is free, rising. */
  readonly free: readonly Run[];
}

/**
 * Places bitmaps and inode tables behind all else.
 * @throws DiskTooSmallError when a given size does not hold it all.
 */
export function placeGroups(numbered: NumberedTree, space: Space, options: GroupOptions): GroupPlacement {
  const { inodeCount } = options;
  const geometry =
    options.sizeBlocks === undefined
      ? tightGeometry(inodeCount, space.end, space.gapBlocks + options.descriptorBlocks)
      : roomyGeometry(inodeCount, options.sizeBlocks);
  const { groups: groupCount, inodesPerGroup } = geometry;
  const descriptorBlocks = Math.ceil(groupCount / DESCRIPTORS_PER_BLOCK);
  if (descriptorBlocks > options.descriptorBlocks) throw new DiskTooSmallError(geometry.blocks);
  space.give(1 + descriptorBlocks, options.descriptorBlocks - descriptorBlocks);

  const blockBitmaps = Array.from({ length: groupCount }, () => space.take(1));
  const inodeBitmaps = Array.from({ length: groupCount }, () => space.take(1));
  const inodeTable = space.end;
  const tableBlocks = inodesPerGroup / INODES_PER_BLOCK;
  space.end += groupCount * tableBlocks;
  const { blocks, blocksPerGroup } =
    options.sizeBlocks === undefined
      ? shrinkGroups(Math.max(geometry.blocks, space.end), groupCount)
      : { blocks: geometry.blocks, blocksPerGroup: BLOCKS_PER_GROUP };
  if (space.end > blocks || blocks > MAX_BLOCKS) throw new DiskTooSmallError(space.end);

  const free = space.freeRuns(blocks);
  const freeBlocks = countFree(free, groupCount, blocksPerGroup);
  const usedDirectories = new Uint32Array(groupCount);
  const { tree } = numbered;
  for (const directory of numbered.directories) {
    const number = tree.inodes.number(tree.inode(tree.place(directory)));
    const group = Math.floor((number - 1) / inodesPerGroup);
    usedDirectories[group] = (usedDirectories[group] ?? 0) + 1;
  }
  const groups = blockBitmaps.map((blockBitmap, group): GroupFields => {
    const usedInodes = Math.min(Math.max(inodeCount - group * inodesPerGroup, 0), inodesPerGroup);
    // A bitmap that is not written must not be the last group's: e2fsck wants to see its end.
    const untouched = freeBlocks[group] === blocksPerGroup && group !== groupCount - 1;
    return {
      blockBitmap,
      inodeBitmap: inodeBitmaps[group] ?? 0,
      inodeTable: inodeTable + group * tableBlocks,
      freeBlocks: freeBlocks[group] ?? 0,
      freeInodes: inodesPerGroup - usedInodes,
      usedDirectories: usedDirectories[group] ?? 0,
      flags:
        GROUP_INODE_ZEROED |
        (untouched ? GROUP_BLOCK_UNINIT : 0) |
        (usedInodes === 0 ? GROUP_INODE_UNINIT : 0),
      unusedInodes: inodesPerGroup - usedInodes,
    };
  });
  return { blocks, blocksPerGroup, inodesPerGroup, inodeTable, groups, free };
}

interface Geometry {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
}

/**
 * The smallest filesystem that holds `end` blocks and what its groups add, `spare` of whose bitmap blocks find
 * room before `end`. Many inodes and little data need more groups than the blocks do.
 */
function tightGeometry(inodeCount: number, end: number, spare: number): Geometry {
  let groups = Math.max(1, Math.ceil(inodeCount / MAX_INODES_PER_GROUP));
  for (;;) {
    const inodesPerGroup = roundUp(Math.ceil(inodeCount / groups), INODES_PER_BLOCK);
    const left = spare - Math.ceil(groups / DESCRIPTORS_PER_BLOCK);
    const bitmaps = Math.max(0, 2 * groups - Math.max(0, left));
    const blocks = end + bitmaps + (groups * inodesPerGroup) / INODES_PER_BLOCK;
    const needed = Math.ceil(blocks / BLOCKS_PER_GROUP);
    if (needed <= groups) return { blocks, groups, inodesPerGroup };
    groups = needed;
  }
}

/** Where inodes need more groups than blocks do, groups are smaller, so that no space is left free. */
function shrinkGroups(blocks: number, groups: number): { blocks: number; blocksPerGroup: number } {
  if (Math.ceil(blocks / BLOCKS_PER_GROUP) === groups) return { blocks, blocksPerGroup: BLOCKS_PER_GROUP };
  const blocksPerGroup = roundUp(Math.ceil(blocks / groups), GROUP_UNIT);
  // What rounding adds to each group could leave the last one without a block.
  return { blocks: Math.max(blocks, (groups - 1) * blocksPerGroup + 1), blocksPerGroup };
}

/** A group's blocks come in eights, as the bits of its bitmap's bytes. */
const GROUP_UNIT = 8;

/** Bytes of disk for which a writable filesystem has an inode, as mke2fs does it. */
const BYTES_PER_INODE = 16_384;

function roomyGeometry(inodeCount: number, sizeBlocks: number): Geometry {
  // A last group of a few blocks is of no use.
  const rest = sizeBlocks % BLOCKS_PER_GROUP;
  const blocks = sizeBlocks > BLOCKS_PER_GROUP && rest < 64 ? sizeBlocks - rest : sizeBlocks;
  const groups = Math.ceil(blocks / BLOCKS_PER_GROUP);
  const usual = Math.min(blocks, BLOCKS_PER_GROUP) / (BYTES_PER_INODE / BLOCK_SIZE);
  const inodesPerGroup = roundUp(Math.max(Math.ceil(inodeCount / groups), usual), INODES_PER_BLOCK);
  if (inodesPerGroup > MAX_INODES_PER_GROUP) {
    throw new DiskTooSmallError(Math.ceil(inodeCount / MAX_INODES_PER_GROUP) * BLOCKS_PER_GROUP);
  }
  return { blocks, groups, inodesPerGroup };
}

/** Free blocks of each group. */
function countFree(free: readonly Run[], groupCount: number, blocksPerGroup: number): Uint32Array {
  const counts = new Uint32Array(groupCount);
  for (const run of free) {
    let at = run.physical;
    const end = run.physical + run.length;
    while (at < end) {
      const group = Math.floor(at / blocksPerGroup);
      const stop = Math.min(end, (group + 1) * blocksPerGroup);
      counts[group] = (counts[group] ?? 0) + stop - at;
      at = stop;
    }
  }
  return counts;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
