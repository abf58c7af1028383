import { createHash } from "node:crypto";
import { type DirectoryPlan, planDirectory } from "./directory.ts";
import { buildExtentTree, type ExtentTree, extentsOf, MAX_EXTENT_BLOCKS, ROOT_ENTRIES } from "./extents.ts";
import {
  BLOCK_SIZE,
  BLOCKS_PER_GROUP,
  DESCRIPTORS_PER_BLOCK,
  FIRST_INODE,
  MAX_FAST_SYMLINK,
  MODE_SYMLINK,
  MODE_TYPE,
  ROOT_INODE,
} from "./format.ts";
import { type GroupPlacement, placeGroups } from "./groups.ts";
import { Space } from "./space.ts";
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

export interface Layout extends GroupPlacement {
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
    ...placeGroups(tree, space, { sizeBlocks: options.sizeBlocks, descriptorBlocks }),
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
