import { describe, test } from "vitest";
import {
  BLOCKS_PER_GROUP,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  MAX_INODES_PER_GROUP,
  MODE_FILE,
} from "./format.ts";
import { DiskTooSmallError } from "./groups.ts";
import { type NewInode, newDirectory, type Run } from "./inodes.ts";
import { type Layout, type LayoutOptions, numberTree, planLayout } from "./layout.ts";
import { FileTree } from "./tree.ts";

/** A file, and where its data lies. */
interface TestFile {
  readonly inode: NewInode;
  readonly block: number;
  readonly runs: readonly Run[] | undefined;
}

const fileInode = (size: number, block = 0, runs?: readonly Run[]): TestFile => ({
  inode: { ...newDirectory(0), mode: MODE_FILE | 0o644, size },
  block,
  runs,
});

function plan(files: ReadonlyMap<string, TestFile>, options: Partial<LayoutOptions> = {}): Layout {
  const tree = new FileTree();
  const root = tree.addRoot(tree.inodes.add(newDirectory(0o755)));
  const directory = tree.directory(root);
  if (directory === undefined) throw new Error("a root is a directory");
  for (const [name, { inode, block, runs }] of files) {
    const id = tree.inodes.add(inode);
    if (block !== 0) tree.inodes.setBlock(id, block);
    if (runs !== undefined) tree.inodes.setRuns(id, runs);
    tree.add(directory, name, id);
  }
  const layout = planLayout(numberTree(tree, root), {
    reservedBlocks: 1,
    dataEnd: 2,
    freed: [],
    sizeBlocks: undefined,
    journalBlocks: 0,
    hashSeed: new Uint32Array(4),
    ...options,
  });
  checkConsistent(layout);
  return layout;
}

/** What must hold of every plan: counts that agree, and no structure on a free block or beyond the end. */
function checkConsistent(layout: Layout): void {
  const free = layout.free.reduce((sum, run) => sum + run.length, 0);
  const counted = layout.groups.reduce((sum, group) => sum + group.freeBlocks, 0);
  if (free !== counted) throw new Error(`${free} blocks are free, the groups count ${counted}`);
  layout.free.forEach((run, index) => {
    const next = layout.free[index + 1];
    if (run.physical + run.length > (next?.physical ?? layout.blocks)) throw new Error("free runs overlap");
  });
  const isFree = (block: number) =>
    block >= layout.blocks ||
    layout.free.some((run) => block >= run.physical && block < run.physical + run.length);
  const tableBlocks = layout.inodesPerGroup / 16;
  const taken = layout.groups.flatMap((group) => [
    group.blockBitmap,
    group.inodeBitmap,
    group.inodeTable,
    group.inodeTable + tableBlocks - 1,
  ]);
  if (taken.some(isFree)) throw new Error("a group's structure stands on a free block");
  if (layout.groups.length !== Math.ceil(layout.blocks / BLOCKS_PER_GROUP))
    throw new Error("wrong group count");
}

/** Blocks of extent trees. */
const extentBlocks = (layout: Layout): number =>
  [...layout.extentBlocks.values()].reduce((sum, { length }) => sum + length, 0);

/** The first block of the root directory. */
const rootBlock = ({ numbered, directories }: Layout): number | undefined =>
  directories.first[numbered.directories[0] ?? 0];

const manyFiles = (count: number) => {
  const files = new Map<string, TestFile>();
  for (let i = 0; i < count; i++) files.set(`f${i}`, fileInode(0));
  return files;
};

describe("planLayout", () => {
  test("an empty tree takes a handful of blocks", ({ expect }) => {
    const layout = plan(new Map());
    // superblock, descriptors, root directory, two bitmaps, a block of inodes
    expect(layout.blocks).toBe(6);
    expect(layout.free).toEqual([]);
    expect(layout.inodesPerGroup).toBe(16);
  });

  test("a group boundary adds a group of one block", ({ expect }) => {
    const full = plan(new Map(), { dataEnd: BLOCKS_PER_GROUP - 4 });
    expect([full.blocks, full.groups.length]).toEqual([BLOCKS_PER_GROUP, 1]);
    const over = plan(new Map(), { dataEnd: BLOCKS_PER_GROUP - 3 });
    // One block over needs a second group, with bitmaps and a table of its own.
    expect([over.blocks, over.groups.length]).toEqual([BLOCKS_PER_GROUP + 4, 2]);
  });

  test("a group's inodes: 32768, and one more makes two groups", ({ expect }) => {
    const reserved = 10;
    expect(plan(manyFiles(MAX_INODES_PER_GROUP - reserved)).groups).toHaveLength(1);
    const two = plan(manyFiles(MAX_INODES_PER_GROUP - reserved + 1));
    expect(two.groups).toHaveLength(2);
    expect(two.inodesPerGroup).toBe(16_400);
    expect(two.blocks).toBe(2 * BLOCKS_PER_GROUP);
  });

  test("43 GiB in one file: extents in two leaves, every group full", ({ expect }) => {
    const size = 43 * 2 ** 30;
    const file = fileInode(size, 8);
    const layout = plan(new Map([["huge", file]]), { reservedBlocks: 7, dataEnd: 8 + size / 4096 });
    expect(extentBlocks(layout)).toBe(2);
    expect(layout.groups).toHaveLength(345);
    expect(layout.groups.every((group) => group.freeBlocks === 0)).toBe(true);
  });

  test.for([
    [4 * 32_768, 0],
    [4 * 32_768 + 1, 1],
  ] as const)("a file of %i blocks takes %i extent blocks", ([blocks, extra], { expect }) => {
    const file = fileInode(blocks * 4096, 2);
    const layout = plan(new Map([["f", file]]), { dataEnd: 2 + blocks });
    expect(extentBlocks(layout)).toBe(extra);
  });

  test("a sparse file of 16 TiB less a block is planned by its data alone", ({ expect }) => {
    const file = fileInode((2 ** 32 - 2) * 4096, 0, [{ logical: 2 ** 32 - 3, physical: 2, length: 1 }]);
    expect(plan(new Map([["f", file]]), { dataEnd: 3 }).blocks).toBe(7);
  });

  test("blocks whose data was dropped are used for metadata, and free if left over", ({ expect }) => {
    const freed = [
      { logical: 0, physical: 5, length: 1 },
      { logical: 0, physical: 50, length: 100 },
    ];
    const layout = plan(new Map(), { dataEnd: 200, freed });
    expect(rootBlock(layout)).toBe(5);
    expect(layout.groups[0]?.blockBitmap).toBe(50);
    expect(layout.free).toEqual([{ logical: 0, physical: 52, length: 98 }]);
  });

  test("blocks kept for descriptors that are not needed are used", ({ expect }) => {
    const layout = plan(manyFiles(5), { reservedBlocks: 40, dataEnd: 41 });
    expect(rootBlock(layout)).toBe(2);
    expect(layout.blocks).toBe(41 + 1);
  });

  test("a writable disk marks what nothing has touched, but not its last group", ({ expect }) => {
    const layout = plan(new Map(), { sizeBlocks: 10 * BLOCKS_PER_GROUP + 100, journalBlocks: 8192 });
    expect(layout.groups).toHaveLength(11);
    const flags = layout.groups.map((group) => group.flags);
    expect(flags.map((each) => (each & GROUP_BLOCK_UNINIT) !== 0)).toEqual([
      false,
      ...Array<boolean>(9).fill(true),
      false,
    ]);
    expect(flags.map((each) => (each & GROUP_INODE_UNINIT) !== 0)).toEqual([
      false,
      ...Array<boolean>(10).fill(true),
    ]);
  });

  test("a last group of less than 64 blocks is left off", ({ expect }) => {
    const blocks = (size: number) => plan(new Map(), { sizeBlocks: size }).blocks;
    expect(blocks(2 * BLOCKS_PER_GROUP + 63)).toBe(2 * BLOCKS_PER_GROUP);
    expect(blocks(2 * BLOCKS_PER_GROUP + 64)).toBe(2 * BLOCKS_PER_GROUP + 64);
  });

  test("a disk that is too small says what is needed", ({ expect }) => {
    expect(() => plan(new Map(), { sizeBlocks: 1000, dataEnd: 990 })).toThrow(DiskTooSmallError);
    expect(() => plan(manyFiles(40_000), { sizeBlocks: 30_000 })).toThrow(DiskTooSmallError);
  });
});
