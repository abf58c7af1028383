import { describe, test } from "vitest";
import {
  BLOCKS_PER_GROUP,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  MAX_INODES_PER_GROUP,
  MODE_FILE,
  MODE_SYMLINK,
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
  if (layout.groups.length !== Math.ceil(layout.blocks / layout.blocksPerGroup))
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
    // They are smaller than they could be: the whole is no larger for it.
    expect(two.blocksPerGroup).toBe(Math.ceil(two.blocks / 2 / 8) * 8);
    expect(two.free).toEqual([]);
  });

  test("files that need many groups of inodes leave no space free", ({ expect }) => {
    const layout = plan(manyFiles(10 * MAX_INODES_PER_GROUP));
    expect(layout.groups).toHaveLength(11);
    expect(layout.blocks).toBeLessThan(BLOCKS_PER_GROUP);
    expect(layout.free).toEqual([]);
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

  // A run of one block each, none next to another: so many extents.
  test.for([
    [4, 0],
    [5, 1],
    [340, 1],
    [341, 2],
    [4 * 340, 4],
    // A fifth leaf does not fit the inode: a node stands above the leaves.
    [4 * 340 + 1, 5 + 1],
    [340 * 340, 340 + 1],
    [340 * 340 + 1, 341 + 2],
  ] as const)("a file of %i pieces takes %i extent blocks", ([pieces, extra], { expect }) => {
    const runs = Array.from({ length: pieces }, (_, i) => ({ logical: 2 * i, physical: 2 + i, length: 1 }));
    const file = fileInode(2 * pieces * 4096, 0, runs);
    expect(extentBlocks(plan(new Map([["f", file]]), { dataEnd: 2 + pieces }))).toBe(extra);
  });

  test.for([
    [59, 0],
    [60, 1],
    [4095, 1],
  ] as const)("a symlink to %i bytes takes %i blocks", ([length, blocks], { expect }) => {
    const inode: NewInode = { ...newDirectory(0), mode: MODE_SYMLINK | 0o777, target: "t".repeat(length) };
    const layout = plan(new Map([["l", { inode, block: 0, runs: undefined }]]));
    expect(layout.symlinkBlocks.size).toBe(blocks);
    expect(layout.blocks).toBe(6 + blocks);
  });

  test("128 groups have one block of descriptors, 129 two", ({ expect }) => {
    // superblock, descriptors, root directory, two bitmaps a group, a block of inodes a group
    const dataEnd = (groups: number) => groups * BLOCKS_PER_GROUP - 1 - 3 * groups;
    const one = plan(new Map(), { reservedBlocks: 2, dataEnd: dataEnd(128) + 1 });
    expect([one.groups.length, one.blocks]).toEqual([128, 128 * BLOCKS_PER_GROUP]);
    // The second, which was kept for descriptors, holds a bitmap then.
    expect(one.groups[0]?.blockBitmap).toBe(2);
    const two = plan(new Map(), { reservedBlocks: 2, dataEnd: dataEnd(128) + 2 });
    expect([two.groups.length, two.free]).toEqual([129, []]);
    expect(() => plan(new Map(), { reservedBlocks: 1, dataEnd: dataEnd(128) + 2 })).toThrow(
      DiskTooSmallError,
    );
  });

  test("values of attributes that are inodes count as what they take", ({ expect }) => {
    const value = (i: number) => ({ name: "user.large", value: Buffer.alloc(65_536, `${i}`) });
    const files = new Map<string, TestFile>();
    for (let i = 0; i < 20; i++) {
      const { inode } = fileInode(0);
      files.set(`f${i}`, { inode: { ...inode, xattrs: [value(i % 10)] }, block: 0, runs: undefined });
    }
    const layout = plan(files);
    expect(layout.xattrs.valueInodes.map(({ number }) => number)).toEqual(
      Array.from({ length: 10 }, (_, i) => 31 + i),
    );
    // 40 inodes; ten values of 16 blocks and a block that leads to each.
    expect([layout.inodesPerGroup, layout.blocks]).toEqual([48, 1 + 1 + 1 + 10 * 17 + 2 + 3]);
    expect(layout.groups[0]?.freeInodes).toBe(48 - 40);
  });

  test("a filesystem has at most 2^32 - 1 blocks", ({ expect }) => {
    const reservedBlocks = 1024;
    const layout = plan(new Map(), { reservedBlocks, dataEnd: 2 ** 32 - 1 - 3 * 2 ** 17 - 1 });
    expect(layout.groups).toHaveLength(2 ** 17);
    expect(layout.blocks).toBeLessThanOrEqual(2 ** 32 - 1);
    expect(() => plan(new Map(), { reservedBlocks, dataEnd: 2 ** 32 - 1 - 3 * 2 ** 17 + 1 })).toThrow(
      DiskTooSmallError,
    );
    expect(plan(new Map(), { reservedBlocks, sizeBlocks: 2 ** 32 - 1 }).blocks).toBe(2 ** 32 - 1);
    expect(() => plan(new Map(), { reservedBlocks, sizeBlocks: 2 ** 32 })).toThrow(DiskTooSmallError);
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
