import { createHash } from "node:crypto";
import { type DirectoryPlan, planDirectory } from "./directory.ts";
import { buildExtentTree, type ExtentTree, extentsOf, MAX_EXTENT_BLOCKS, ROOT_ENTRIES } from "./extents.ts";
import {
  BLOCK_SIZE,
  BLOCKS_PER_GROUP,
  DESCRIPTORS_PER_BLOCK,
  FIRST_INODE,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  GROUP_INODE_ZEROED,
  type GroupFields,
  INODES_PER_BLOCK,
  MAX_BLOCKS,
  MAX_FAST_SYMLINK,
  MAX_INODES_PER_GROUP,
  MODE_SYMLINK,
  MODE_TYPE,
  ROOT_INODE,
} from "./format.ts";
import { type Inode, type NumberedTree, numberInodes, type Run, type TreeNode } from "./tree.ts";
import { encodeXattrs, MAX_BLOCK_REFERENCES } from "./xattr.ts";

/*
 * Where everything stands that is not file data: a pure function of the tree and of where the data ends.
 * writer.ts carries it out.
 */

/** What is decided before the layout: where data has been put, and how large the disk shall be. */
export interface LayoutOptions {
  /** Blocks left free for group descriptors, from block 1 on; what they do not need is used otherwise. */
  readonly reservedBlocks: number;
  /** First block after all file data. */
  readonly dataEnd: number;
  /** Blocks before `dataEnd` that nothing uses, rising. */
  readonly freed: readonly Run[];
  /** Size of a writable disk in blocks; undefined for one with no room to spare. */
  readonly sizeBlocks: number | undefined;
  /** Blocks of the journal, 0 for none. */
  readonly journalBlocks: number;
  /** s_hash_seed. */
  readonly hashSeed: Uint32Array;
}

export interface Layout {
  readonly blocks: number;
  readonly inodesPerGroup: number;
  /** First block of the inode tables, which follow one another. */
  readonly inodeTable: number;
  readonly groups: readonly GroupFields[];
  /** What is free, rising. */
  readonly free: readonly Run[];
  readonly tree: NumberedTree;
  readonly directoryPlans: ReadonlyMap<Inode, DirectoryPlan>;
  /** First block of each directory and long symlink. */
  readonly contentBlocks: ReadonlyMap<Inode, number>;
  /** Extent trees of the files that do not fit the inode. */
  readonly extentTrees: ReadonlyMap<Inode, ExtentTree>;
  /** The attribute block of each inode that has one. */
  readonly xattrBlocks: ReadonlyMap<Inode, SharedBlock>;
  readonly journal: Run | undefined;
}

/** A block of attributes that several inodes may have in common. */
interface SharedBlock {
  readonly block: number;
  /** How many inodes lead to it. */
  references: number;
}

/** Blocks in one piece whose extents the inode itself can hold. */
const MAX_INODE_BLOCKS: number = ROOT_ENTRIES * MAX_EXTENT_BLOCKS;

/** The disk that was asked for is too small: `needed` blocks are taken. */
export class DiskTooSmallError extends Error {
  override readonly name = "DiskTooSmallError";
  readonly needed: number;
  constructor(needed: number) {
    super(`the filesystem needs ${needed} blocks`);
    this.needed = needed;
  }
}

/** Numbers the inodes of a tree as {@link planLayout} needs them. */
export function numberTree(root: TreeNode): NumberedTree {
  return numberInodes(root, ROOT_INODE, FIRST_INODE);
}

/** Plans the filesystem of a tree. */
export function planLayout(tree: NumberedTree, options: LayoutOptions): Layout {
  const descriptorBlocks = Math.min(options.reservedBlocks, descriptorBlocksAtMost(tree, options));
  const spare = options.reservedBlocks - descriptorBlocks;
  const space = new Space(options.dataEnd, options.freed);
  space.give(1 + descriptorBlocks, spare);
  const directoryPlans = new Map<Inode, DirectoryPlan>();
  const contentBlocks = new Map<Inode, number>();
  for (const [inode, { node }] of tree.directories) {
    const plan = planDirectory(node.children, options.hashSeed);
    directoryPlans.set(inode, plan);
    contentBlocks.set(inode, space.take(plan.blocks));
  }
  const extentTrees = new Map<Inode, ExtentTree>();
  const planExtents = (inode: Inode, runs: readonly Run[]) =>
    extentTrees.set(
      inode,
      buildExtentTree(extentsOf(runs), () => space.take(1)),
    );
  for (const [inode, { blocks }] of directoryPlans) {
    if (blocks <= MAX_INODE_BLOCKS) continue;
    planExtents(inode, [{ logical: 0, physical: contentBlocks.get(inode) ?? 0, length: blocks }]);
  }
  const xattrs = new XattrPlanner(space);
  for (const inode of tree.directories.keys()) if (inode.number === ROOT_INODE) xattrs.add(inode);
  for (const inode of tree.inodes) {
    if ((inode.mode & MODE_TYPE) === MODE_SYMLINK) {
      if (inode.target.length > MAX_FAST_SYMLINK) contentBlocks.set(inode, space.take(1));
    } else if (inode.runs !== undefined || inode.size > MAX_INODE_BLOCKS * BLOCK_SIZE) {
      planExtents(inode, dataRuns(inode));
    }
    if (inode.xattrs !== undefined) xattrs.add(inode);
  }
  const journal: Run | undefined =
    options.journalBlocks === 0
      ? undefined
      : { logical: 0, physical: space.take(options.journalBlocks), length: options.journalBlocks };
  return {
    ...placeGroups(tree, space, { ...options, descriptorBlocks }),
    tree,
    directoryPlans,
    contentBlocks,
    extentTrees,
    xattrBlocks: xattrs.blocks,
    journal,
  };
}

/** The runs of a file's data. */
function dataRuns(inode: Inode): readonly Run[] {
  if (inode.runs !== undefined) return inode.runs;
  if (inode.block === 0) return [];
  return [{ logical: 0, physical: inode.block, length: Math.ceil(inode.size / BLOCK_SIZE) }];
}

/** Gives out blocks: from gaps where a run fits, else after everything else. */
class Space {
  end: number;
  #gaps: Run[];

  constructor(end: number, gaps: readonly Run[]) {
    this.end = end;
    this.#gaps = [...gaps];
  }

  take(length: number): number {
    const index = this.#gaps.findIndex((gap) => gap.length >= length);
    const gap = this.#gaps[index];
    if (gap === undefined) {
      const start = this.end;
      this.end += length;
      return start;
    }
    if (gap.length === length) this.#gaps.splice(index, 1);
    else this.#gaps[index] = { logical: 0, physical: gap.physical + length, length: gap.length - length };
    return gap.physical;
  }

  /** Offers a gap before all others. */
  give(physical: number, length: number): void {
    if (length > 0) this.#gaps.unshift({ logical: 0, physical, length });
  }

  get gapBlocks(): number {
    return this.#gaps.reduce((sum, gap) => sum + gap.length, 0);
  }

  /** The free runs of a filesystem of `blocks` blocks. */
  freeRuns(blocks: number): Run[] {
    const tail = blocks - this.end;
    return tail > 0 ? [...this.#gaps, { logical: 0, physical: this.end, length: tail }] : [...this.#gaps];
  }
}

/** Gives attribute sets that do not fit the inode a block; inodes with the same set share it. */
class XattrPlanner {
  readonly blocks = new Map<Inode, SharedBlock>();
  readonly #space: Space;
  /** By the digest of the block's bytes: the bytes themselves are made again when they are written. */
  readonly #shared = new Map<string, SharedBlock>();

  constructor(space: Space) {
    this.#space = space;
  }

  add(inode: Inode): void {
    if (inode.xattrs === undefined) return;
    const { block } = encodeXattrs(inode.xattrs);
    if (block === undefined) return;
    const key = createHash("sha256").update(block).digest("base64");
    let shared = this.#shared.get(key);
    if (shared === undefined || shared.references === MAX_BLOCK_REFERENCES) {
      shared = { block: this.#space.take(1), references: 0 };
      this.#shared.set(key, shared);
    }
    shared.references++;
    this.blocks.set(inode, shared);
  }
}

type GroupPlacement = Pick<Layout, "blocks" | "inodesPerGroup" | "inodeTable" | "groups" | "free">;

/** Blocks that group descriptors take at most: what the metadata will be is estimated, never too low. */
function descriptorBlocksAtMost(tree: NumberedTree, options: LayoutOptions): number {
  let blocks = options.sizeBlocks;
  if (blocks === undefined) {
    let entryBytes = 0;
    for (const { node } of tree.directories.values()) {
      for (const name of node.children?.keys() ?? []) entryBytes += name.length + 12;
    }
    // A directory's block may be half empty; an inode has at most two blocks of its own and a share of a table.
    const metadata = (2 * entryBytes) / BLOCK_SIZE + 4 * (tree.inodes.length + FIRST_INODE);
    blocks = 1.02 * (options.dataEnd + metadata) + 1024;
    blocks = Math.max(blocks, tree.inodes.length + BLOCKS_PER_GROUP);
  }
  return Math.ceil(Math.ceil(blocks / BLOCKS_PER_GROUP) / DESCRIPTORS_PER_BLOCK);
}

interface GroupOptions extends LayoutOptions {
  /** Blocks that are to hold the group descriptors. */
  readonly descriptorBlocks: number;
}

function placeGroups(tree: NumberedTree, space: Space, options: GroupOptions): GroupPlacement {
  const inodeCount = FIRST_INODE - 1 + tree.inodes.length;
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
  const blocks = Math.max(geometry.blocks, options.sizeBlocks === undefined ? space.end : 0);
  if (space.end > blocks || blocks > MAX_BLOCKS) throw new DiskTooSmallError(space.end);

  const free = space.freeRuns(blocks);
  const freeBlocks = countFree(free, groupCount);
  const usedDirectories = new Uint32Array(groupCount);
  for (const { number } of tree.directories.keys()) {
    const group = Math.floor((number - 1) / inodesPerGroup);
    usedDirectories[group] = (usedDirectories[group] ?? 0) + 1;
  }
  const groups = blockBitmaps.map((blockBitmap, group): GroupFields => {
    const usedInodes = Math.min(Math.max(inodeCount - group * inodesPerGroup, 0), inodesPerGroup);
    // A bitmap that is not written must not be the last group's: e2fsck wants to see its end.
    const untouched = freeBlocks[group] === BLOCKS_PER_GROUP && group !== groupCount - 1;
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
  return { blocks, inodesPerGroup, inodeTable, groups, free };
}

interface Geometry {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
}

/**
 * The smallest filesystem that holds `end` blocks and what its groups add, `spare` of whose bitmap blocks find
 * room before `end`. Many inodes and little data need more groups than the blocks do: the rest is free space.
 */
function tightGeometry(inodeCount: number, end: number, spare: number): Geometry {
  let groups = Math.max(1, Math.ceil(inodeCount / MAX_INODES_PER_GROUP));
  for (;;) {
    const inodesPerGroup = roundUp(Math.ceil(inodeCount / groups), INODES_PER_BLOCK);
    const left = spare - Math.ceil(groups / DESCRIPTORS_PER_BLOCK);
    const bitmaps = Math.max(0, 2 * groups - Math.max(0, left));
    const blocks = end + bitmaps + (groups * inodesPerGroup) / INODES_PER_BLOCK;
    const needed = Math.ceil(blocks / BLOCKS_PER_GROUP);
    if (needed < groups) return { blocks: groups * BLOCKS_PER_GROUP, groups, inodesPerGroup };
    if (needed === groups) return { blocks, groups, inodesPerGroup };
    groups = needed;
  }
}

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
function countFree(free: readonly Run[], groupCount: number): Uint32Array {
  const counts = new Uint32Array(groupCount);
  for (const run of free) {
    let at = run.physical;
    const end = run.physical + run.length;
    while (at < end) {
      const group = Math.floor(at / BLOCKS_PER_GROUP);
      const stop = Math.min(end, (group + 1) * BLOCKS_PER_GROUP);
      counts[group] = (counts[group] ?? 0) + stop - at;
      at = stop;
    }
  }
  return counts;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
