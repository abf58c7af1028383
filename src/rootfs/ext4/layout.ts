import { type DirectoryIndex, planDirectory } from "./directory.ts";
import { extentBlockCount, extentsOf, MAX_EXTENT_BLOCKS, ROOT_ENTRIES } from "./extents.ts";
import {
  BLOCK_SIZE,
  BLOCKS_PER_GROUP,
  DESCRIPTORS_PER_BLOCK,
  FIRST_INODE,
  MAX_FAST_SYMLINK,
  MODE_FILE,
  MODE_SYMLINK,
  MODE_TYPE,
  ROOT_INODE,
} from "./format.ts";
import { type GroupPlacement, placeGroups } from "./groups.ts";
import type { InodeId, InodeTable, Run } from "./inodes.ts";
import { Space } from "./space.ts";
import { type DirectoryId, type FileTree, type NumberedTree, numberInodes, type PlaceId } from "./tree.ts";
import { MIN_LARGE_BYTES } from "./xattr.ts";
import { planXattrBlocks, type XattrPlacement } from "./xattr-layout.ts";

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
  readonly numbered: NumberedTree;
  readonly directories: DirectoryPlacement;
  /** The block of each symlink that is too long for its inode. */
  readonly symlinkBlocks: ReadonlyMap<InodeId, number>;
  /** The blocks of the extent tree of each file or directory whose extents do not fit the inode. */
  readonly extentBlocks: ReadonlyMap<InodeId, Run>;
  readonly xattrs: XattrPlacement;
  readonly journal: Run | undefined;
}

/** Where the directories stand, each in one piece, by their names in the tree. */
export interface DirectoryPlacement {
  readonly first: Uint32Array;
  readonly blocks: Uint32Array;
  /** Of those that are indexed. */
  readonly indexes: ReadonlyMap<DirectoryId, DirectoryIndex>;
}

/** Blocks in one piece whose extents the inode itself can hold. */
const MAX_INODE_BLOCKS: number = ROOT_ENTRIES * MAX_EXTENT_BLOCKS;

/** Numbers the inodes of a tree as {@link planLayout} needs them. */
export function numberTree(tree: FileTree, root: PlaceId): NumberedTree {
  return numberInodes(tree, root, { root: ROOT_INODE, first: FIRST_INODE });
}

/** Plans the filesystem of a tree. */
export function planLayout(numbered: NumberedTree, options: LayoutOptions): Layout {
  const descriptorBlocks = Math.min(options.reservedBlocks, descriptorBlocksAtMost(numbered, options));
  const spare = options.reservedBlocks - descriptorBlocks;
  const space = new Space(options.dataEnd, options.freed);
  space.give(1 + descriptorBlocks, spare);
  const directories = placeDirectories(numbered, space, options.hashSeed);
  const { symlinkBlocks, extentBlocks } = placeContents(numbered, space, directories);
  const xattrs = planXattrBlocks(numbered, space);
  const journal: Run | undefined =
    options.journalBlocks === 0
      ? undefined
      : { logical: 0, physical: space.take(options.journalBlocks), length: options.journalBlocks };
  const inodeCount = FIRST_INODE - 1 + numbered.inodes.length + xattrs.valueInodes.length;
  return {
    ...placeGroups(numbered, space, { inodeCount, sizeBlocks: options.sizeBlocks, descriptorBlocks }),
    numbered,
    directories,
    symlinkBlocks,
    extentBlocks,
    xattrs,
    journal,
  };
}

function placeDirectories(numbered: NumberedTree, space: Space, seed: Uint32Array): DirectoryPlacement {
  const { tree } = numbered;
  const first = new Uint32Array(tree.directoryCount + 1);
  const blocks = new Uint32Array(tree.directoryCount + 1);
  const indexes = new Map<DirectoryId, DirectoryIndex>();
  for (const directory of numbered.directories) {
    const plan = planDirectory(tree, directory, seed);
    first[directory] = space.take(plan.blocks);
    blocks[directory] = plan.blocks;
    if (plan.index !== undefined) indexes.set(directory, plan.index);
  }
  return { first, blocks, indexes };
}

/** Gives blocks to long symlinks, and to the extent trees that files and directories need beside their inodes. */
function placeContents(
  { tree, inodes, directories }: NumberedTree,
  space: Space,
  placed: DirectoryPlacement,
): Pick<Layout, "symlinkBlocks" | "extentBlocks"> {
  const symlinkBlocks = new Map<InodeId, number>();
  const extentBlocks = new Map<InodeId, Run>();
  const placeExtents = (inode: InodeId, runs: readonly Run[]) => {
    const length = extentBlockCount(extentsOf(runs).length);
    if (length > 0) extentBlocks.set(inode, { logical: 0, physical: space.take(length), length });
  };
  for (const directory of directories) {
    const blocks = placed.blocks[directory] ?? 0;
    if (blocks <= MAX_INODE_BLOCKS) continue;
    placeExtents(tree.inode(tree.place(directory)), directoryRuns(placed, directory));
  }
  const table = tree.inodes;
  for (const inode of inodes) {
    const type = table.mode(inode) & MODE_TYPE;
    if (type === MODE_SYMLINK) {
      if (table.size(inode) > MAX_FAST_SYMLINK) symlinkBlocks.set(inode, space.take(1));
    } else if (type === MODE_FILE) {
      const whole = table.runs(inode) === undefined && table.size(inode) <= MAX_INODE_BLOCKS * BLOCK_SIZE;
      if (!whole) placeExtents(inode, dataRuns(table, inode));
    }
  }
  return { symlinkBlocks, extentBlocks };
}

/** The runs of a file's data. */
export function dataRuns(table: InodeTable, inode: InodeId): readonly Run[] {
  const runs = table.runs(inode);
  if (runs !== undefined) return runs;
  const block = table.block(inode);
  if (block === 0) return [];
  return [{ logical: 0, physical: block, length: Math.ceil(table.size(inode) / BLOCK_SIZE) }];
}

/** The run of a directory. */
export function directoryRuns(placed: DirectoryPlacement, directory: DirectoryId): readonly Run[] {
  return [{ logical: 0, physical: placed.first[directory] ?? 0, length: placed.blocks[directory] ?? 0 }];
}

/** Blocks that group descriptors take at most: what the metadata will be is estimated, never too low. */
function descriptorBlocksAtMost(numbered: NumberedTree, options: LayoutOptions): number {
  const { tree, inodes, directories } = numbered;
  let blocks = options.sizeBlocks;
  if (blocks === undefined) {
    let entryBytes = 0;
    for (const directory of directories) {
      for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
        entryBytes += tree.nameLength(place) + 12;
      }
    }
    // A directory's block may be half empty; an inode has at most two blocks of its own and a share of a table.
    // Values of attributes that have inodes of their own take a block each and a share of a table, or more if long.
    const valueBlocks = (2 * tree.inodes.xattrSets.bytes) / MIN_LARGE_BYTES;
    const metadata = (2 * entryBytes) / BLOCK_SIZE + 4 * (inodes.length + FIRST_INODE) + valueBlocks;
    blocks = 1.02 * (options.dataEnd + metadata) + 1024;
    blocks = Math.max(blocks, inodes.length + BLOCKS_PER_GROUP);
  }
  return Math.ceil(Math.ceil(blocks / BLOCKS_PER_GROUP) / DESCRIPTORS_PER_BLOCK);
}
