import { FirectlError } from "../../core/errors.ts";

/*
 * The superblock as a reader needs it. The guest wrote it: every number is checked before anything relies on it.
 * https://www.kernel.org/doc/html/latest/filesystems/ext4/super.html
 */

export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_BYTES = 1024;

export const ROOT_INODE = 2;

export interface Superblock {
  readonly blockSize: number;
  readonly blocks: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeSize: number;
  readonly groups: number;
  readonly descriptorSize: number;
  readonly is64Bit: boolean;
  /** Whether directories may be larger than 2 GiB, so that i_size_high counts for them. */
  readonly hasLargeDirectories: boolean;
  /** The journal's inode, 0 when there is none. */
  readonly journalInode: number;
  /** A transaction may stand in the journal alone. */
  readonly needsRecovery: boolean;
  /** First group whose descriptors lie in the meta block groups; Infinity without them. */
  readonly firstMetaGroup: number;
  /** Whether a group begins with a copy of the superblock. */
  readonly hasBackup: (group: number) => boolean;
}

const MAGIC = 0xef53;

const COMPAT_HAS_JOURNAL = 0x4;
const COMPAT_SPARSE_SUPER2 = 0x200;
const RO_COMPAT_SPARSE_SUPER = 0x1;

const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_META_BG = 0x10;
const INCOMPAT_64BIT = 0x80;
const INCOMPAT_LARGEDIR = 0x4000;

/** Incompatible features that change nothing for a reader or are seen to. */
const KNOWN_INCOMPAT: Readonly<Record<number, string>> = {
  2: "filetype",
  [INCOMPAT_RECOVER]: "needs_recovery",
  [INCOMPAT_META_BG]: "meta_bg",
  64: "extents",
  [INCOMPAT_64BIT]: "64bit",
  256: "mmp",
  512: "flex_bg",
  1024: "ea_inode",
  8192: "metadata_csum_seed",
  [INCOMPAT_LARGEDIR]: "large_dir",
  32768: "inline_data",
  // Files that use it are refused one by one.
  65536: "encrypt",
  131072: "casefold",
};

/** Those that are known to be beyond this reader. */
const REFUSED_INCOMPAT: Readonly<Record<number, string>> = {
  1: "compression",
  8: "journal_dev",
  4096: "dirdata",
};

/** Largest block size of ext4. */
const MAX_LOG_BLOCK_SIZE = 6;
const MAX_DESCRIPTOR_BYTES = 1024;

/**
 * Reads the 1024 bytes of a superblock. `diskBytes` is the size of what it stands on, `disk` how errors call it.
 * @throws FirectlError DISK_INVALID, UNSUPPORTED for a feature that is not known.
 */
export function parseSuperblock(bytes: Buffer, disk: string, diskBytes: number): Superblock {
  const invalid = (problem: string) => new FirectlError("DISK_INVALID", `${disk}: ${problem}`);
  const u16 = (at: number) => bytes.readUInt16LE(at);
  const u32 = (at: number) => bytes.readUInt32LE(at);
  if (u16(0x38) !== MAGIC) throw invalid("it holds no ext4 filesystem");
  const compat = u32(0x5c);
  const incompat = u32(0x60);
  refuseUnknown(incompat, disk);

  const logBlockSize = u32(0x18);
  if (logBlockSize > MAX_LOG_BLOCK_SIZE) throw invalid(`blocks of 1024 << ${logBlockSize} bytes`);
  const blockSize = 1024 << logBlockSize;
  const is64Bit = (incompat & INCOMPAT_64BIT) !== 0;
  const blocks = u32(0x04) + (is64Bit ? u32(0x150) * 2 ** 32 : 0);
  if (blocks * blockSize > diskBytes) {
    throw invalid(`${blocks} blocks of ${blockSize} bytes are more than the disk's ${diskBytes} bytes`);
  }
  const firstDataBlock = u32(0x14);
  if (firstDataBlock > (blockSize === 1024 ? 1 : 0) || blocks <= firstDataBlock) {
    throw invalid(`${blocks} blocks, the first of them ${firstDataBlock}`);
  }
  const blocksPerGroup = u32(0x20);
  // With clusters of several blocks a group's bitmap stands for as many times more.
  const maxBlocksPerGroup = blockSize * 8 * 2 ** Math.min(Math.max(u32(0x1c) - logBlockSize, 0), 20);
  if (blocksPerGroup === 0 || blocksPerGroup > maxBlocksPerGroup) {
    throw invalid(`${blocksPerGroup} blocks in a group`);
  }
  const groups = Math.ceil((blocks - firstDataBlock) / blocksPerGroup);
  const inodes = u32(0x00);
  const inodesPerGroup = u32(0x28);
  if (inodesPerGroup === 0 || inodesPerGroup > blockSize * 8 || inodes !== groups * inodesPerGroup) {
    throw invalid(`${inodes} inodes in ${groups} groups of ${inodesPerGroup}`);
  }
  const isDynamic = u32(0x4c) > 0;
  const inodeSize = isDynamic ? u16(0x58) : 128;
  if (inodeSize < 128 || inodeSize > blockSize || !isPowerOfTwo(inodeSize)) {
    throw invalid(`inodes of ${inodeSize} bytes`);
  }
  const descriptorSize = is64Bit ? u16(0xfe) : 32;
  if (descriptorSize < (is64Bit ? 64 : 32) || descriptorSize > Math.min(MAX_DESCRIPTOR_BYTES, blockSize)) {
    throw invalid(`group descriptors of ${descriptorSize} bytes`);
  }
  if (!isPowerOfTwo(descriptorSize)) throw invalid(`group descriptors of ${descriptorSize} bytes`);
  return {
    blockSize,
    blocks,
    firstDataBlock,
    blocksPerGroup,
    inodes,
    inodesPerGroup,
    inodeSize,
    groups,
    descriptorSize,
    is64Bit,
    hasLargeDirectories: (incompat & INCOMPAT_LARGEDIR) !== 0,
    journalInode: (compat & COMPAT_HAS_JOURNAL) === 0 ? 0 : u32(0xe0),
    needsRecovery: (incompat & INCOMPAT_RECOVER) !== 0,
    firstMetaGroup: (incompat & INCOMPAT_META_BG) === 0 ? Number.POSITIVE_INFINITY : u32(0x104),
    hasBackup: backups(compat, u32(0x64), [u32(0x24c), u32(0x250)]),
  };
}

function refuseUnknown(incompat: number, disk: string): void {
  for (let bit = 1; bit < 2 ** 32; bit *= 2) {
    const isSet = Math.floor(incompat / bit) % 2 === 1;
    if (!isSet || KNOWN_INCOMPAT[bit] !== undefined) continue;
    const name = REFUSED_INCOMPAT[bit] ?? `0x${bit.toString(16)}`;
    throw new FirectlError(
      "UNSUPPORTED",
      `${disk}: its ext4 filesystem has the feature ${name}, which firectl cannot read`,
    );
  }
}

function backups(compat: number, roCompat: number, own: readonly number[]): (group: number) => boolean {
  if ((compat & COMPAT_SPARSE_SUPER2) !== 0) return (group) => group === 0 || own.includes(group);
  if ((roCompat & RO_COMPAT_SPARSE_SUPER) === 0) return () => true;
  return (group) => group <= 1 || [3, 5, 7].some((base) => isPowerOf(group, base));
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
