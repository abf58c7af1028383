import { type DiskInode, FLAG_EXTENTS } from "./inode.ts";
import type { Volume } from "./volume.ts";

/*
 * Where a file's data lies: extents, or the older map of indirect blocks.
 * https://www.kernel.org/doc/html/latest/filesystems/ext4/ifork.html
 */

/** Neighbouring blocks that hold neighbouring data; between runs, and in what was never written, are zeros. */
export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly count: number;
}

const EXTENT_MAGIC = 0xf30a;
const ENTRY_BYTES = 12;
/** EXT4_MAX_EXTENT_DEPTH of the kernel's fs/ext4/ext4_extents.h. */
const MAX_DEPTH = 5;
/** Longer ones are extents that were allocated but not written, counted from here. */
const MAX_WRITTEN = 32_768;
const DIRECT_BLOCKS = 12;

/** Told of blocks that are a file's, as its map is read; what it throws ends the reading. */
export type OnBlocks = (count: number) => void;

/**
 * The runs of a file in rising order, blocks beyond its end included.
 * @param onBlocks Also told of those that yield no run: the map's own, and what was allocated but not written.
 * @throws FirectlError DISK_INVALID naming the inode: whatever the map, it ends.
 */
export function runsOf(
  volume: Volume,
  inode: DiskInode,
  onBlocks: OnBlocks = () => {},
): Generator<Run, void> {
  const budget = new BlockBudget(volume, inode, onBlocks);
  return (inode.flags & FLAG_EXTENTS) !== 0
    ? extentRuns(volume, inode, budget)
    : indirectRuns(volume, inode, budget);
}

/** Counts blocks against those that the filesystem has: more are possible only if some are used twice. */
class BlockBudget {
  readonly #volume: Volume;
  readonly #inode: DiskInode;
  readonly #onBlocks: OnBlocks;
  #used = 0;

  constructor(volume: Volume, inode: DiskInode, onBlocks: OnBlocks) {
    this.#volume = volume;
    this.#inode = inode;
    this.#onBlocks = onBlocks;
  }

  /** Takes `count` blocks from `first` on. */
  take(first: number, count: number): void {
    const { blocks } = this.#volume.superblock;
    if (!this.#volume.hasBlocks(first, count)) {
      throw this.wrong(`blocks ${first} to ${first + count - 1} of a disk of ${blocks}`);
    }
    this.#used += count;
    if (this.#used > blocks) throw this.wrong(`it has more blocks than the disk's ${blocks}`);
    this.#onBlocks(count);
  }

  wrong(problem: string): Error {
    return this.#volume.invalid(`inode ${this.#inode.number}: ${problem}`);
  }
}

function* extentRuns(volume: Volume, inode: DiskInode, budget: BlockBudget): Generator<Run, void> {
  /** The nodes on the way down, each with the entry that comes next. */
  const path: Array<{
    readonly bytes: Buffer;
    readonly depth: number;
    readonly entries: number;
    next: number;
  }> = [];
  const descend = (bytes: Buffer, depth: number | undefined) => {
    const entries = bytes.readUInt16LE(2);
    const nodeDepth = bytes.readUInt16LE(6);
    if (bytes.readUInt16LE(0) !== EXTENT_MAGIC) throw budget.wrong("its extent tree has a node that is none");
    if (nodeDepth !== (depth ?? nodeDepth) || nodeDepth > MAX_DEPTH) {
      throw budget.wrong(`its extent tree has a node of depth ${nodeDepth}`);
    }
    if (entries > bytes.length / ENTRY_BYTES - 1) {
      throw budget.wrong(`its extent tree has a node of ${entries} entries`);
    }
    path.push({ bytes, depth: nodeDepth, entries, next: 0 });
  };
  descend(inode.iBlock, undefined);
  /** Where the next extent may begin at the earliest. */
  let end = 0;
  for (let node = path.at(-1); node !== undefined; node = path.at(-1)) {
    if (node.next === node.entries) {
      path.pop();
      continue;
    }
    const at = ENTRY_BYTES * ++node.next;
    const { bytes } = node;
    const logical = bytes.readUInt32LE(at);
    if (node.depth > 0) {
      const child = bytes.readUInt32LE(at + 4) + bytes.readUInt16LE(at + 8) * 2 ** 32;
      budget.take(child, 1);
      descend(volume.block(child), node.depth - 1);
      continue;
    }
    const length = bytes.readUInt16LE(at + 4);
    const count = length > MAX_WRITTEN ? length - MAX_WRITTEN : length;
    const physical = bytes.readUInt32LE(at + 8) + bytes.readUInt16LE(at + 6) * 2 ** 32;
    if (count === 0 || logical < end) {
      throw budget.wrong(`its extents are out of order at block ${logical} of the file`);
    }
    budget.take(physical, count);
    end = logical + count;
    if (length <= MAX_WRITTEN) yield { logical, physical, count };
  }
}

function* indirectRuns(volume: Volume, inode: DiskInode, budget: BlockBudget): Generator<Run, void> {
  let run: Run | undefined;
  for (const [logical, physical] of indirectBlocks(volume, inode, budget)) {
    if (run !== undefined && logical === run.logical + run.count && physical === run.physical + run.count) {
      run = { ...run, count: run.count + 1 };
      continue;
    }
    if (run !== undefined) yield run;
    run = { logical, physical, count: 1 };
  }
  if (run !== undefined) yield run;
}

/** Blocks of the file's data, the file's number and the disk's. */
function* indirectBlocks(
  volume: Volume,
  inode: DiskInode,
  budget: BlockBudget,
): Generator<readonly [logical: number, physical: number], void> {
  const perBlock = volume.superblock.blockSize / 4;
  const total = Math.ceil(inode.size / volume.superblock.blockSize);
  function* below(block: number, level: number, logical: number): Generator<readonly [number, number], void> {
    if (block === 0 || logical >= total) return;
    budget.take(block, 1);
    if (level === 0) {
      yield [logical, block];
      return;
    }
    const table = volume.block(block);
    const span = perBlock ** (level - 1);
    for (let i = 0; i < perBlock; i++) {
      yield* below(table.readUInt32LE(4 * i), level - 1, logical + i * span);
    }
  }
  let logical = 0;
  for (let i = 0; i < DIRECT_BLOCKS; i++) yield* below(inode.iBlock.readUInt32LE(4 * i), 0, logical++);
  for (let level = 1; level <= 3; level++) {
    yield* below(inode.iBlock.readUInt32LE(4 * (DIRECT_BLOCKS + level - 1)), level, logical);
    logical += perBlock ** level;
  }
}
