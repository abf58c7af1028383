import { SUPERBLOCK_OFFSET } from "./superblock.ts";
import type { Volume } from "./volume.ts";

/*
 * https://www.kernel.org/doc/html/latest/filesystems/ext4/inodes.html
 * https://www.kernel.org/doc/html/latest/filesystems/ext4/group_descr.html
 */

/** An inode as it stands on the disk. */
export interface DiskInode {
  readonly number: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly flags: number;
  /** i_block: a map of the file's blocks, a short symlink, a device's number, or the first bytes of the data. */
  readonly iBlock: Buffer;
  /** The block with further attributes, or 0. */
  readonly xattrBlock: number;
  /** Room after the fixed fields, where attributes may stand. */
  readonly tail: Buffer;
}

export const TYPE_MASK = 0xf000;
export const TYPE_FIFO = 0x1000;
export const TYPE_CHARACTER_DEVICE = 0x2000;
export const TYPE_DIRECTORY = 0x4000;
export const TYPE_BLOCK_DEVICE = 0x6000;
export const TYPE_FILE = 0x8000;
export const TYPE_SYMLINK = 0xa000;
export const TYPE_SOCKET = 0xc000;

export const FLAG_ENCRYPTED = 0x800;
export const FLAG_EXTENTS = 0x8_0000;
export const FLAG_EA_INODE = 0x20_0000;
export const FLAG_INLINE_DATA = 0x1000_0000;

/** Bytes of the fixed part that every inode has. */
const OLD_INODE_BYTES = 128;
const I_BLOCK_BYTES = 60;

export function typeOf(inode: DiskInode): number {
  return inode.mode & TYPE_MASK;
}

/** Reads an inode by its number. @throws FirectlError DISK_INVALID naming it. */
export function readInode(volume: Volume, number: number): DiskInode {
  const { superblock } = volume;
  if (!(number >= 1 && number <= superblock.inodes)) {
    throw volume.invalid(`inode ${number}: there are ${superblock.inodes} inodes`);
  }
  const group = Math.floor((number - 1) / superblock.inodesPerGroup);
  const offset = ((number - 1) % superblock.inodesPerGroup) * superblock.inodeSize;
  const block = inodeTable(volume, group) + Math.floor(offset / superblock.blockSize);
  if (!volume.hasBlocks(block, 1)) {
    throw volume.invalid(`inode ${number}: it would be in block ${block} of ${superblock.blocks}`);
  }
  const at = offset % superblock.blockSize;
  return parseInode(volume, number, volume.block(block).subarray(at, at + superblock.inodeSize));
}

function parseInode(volume: Volume, number: number, bytes: Buffer): DiskInode {
  const u16 = (at: number) => bytes.readUInt16LE(at);
  const u32 = (at: number) => bytes.readUInt32LE(at);
  const mode = u16(0x00);
  // i_extra_isize says which of the later fields are in use.
  const extra = bytes.length > OLD_INODE_BYTES ? u16(0x80) : 0;
  if (OLD_INODE_BYTES + extra > bytes.length || extra % 4 !== 0) {
    throw volume.invalid(`inode ${number}: ${extra} bytes of further fields in one of ${bytes.length}`);
  }
  const hasHighSize =
    (mode & TYPE_MASK) === TYPE_FILE ||
    ((mode & TYPE_MASK) === TYPE_DIRECTORY && volume.superblock.hasLargeDirectories);
  const size = u32(0x04) + (hasHighSize ? u32(0x6c) * 2 ** 32 : 0);
  if (!Number.isSafeInteger(size)) throw volume.invalid(`inode ${number}: a size of ${size} bytes`);
  // i_mtime_extra stands at 0x88.
  const timeExtra = extra >= 0x8c - OLD_INODE_BYTES ? u32(0x88) : 0;
  return {
    number,
    mode,
    uid: u16(0x02) + u16(0x78) * 2 ** 16,
    gid: u16(0x18) + u16(0x7a) * 2 ** 16,
    size,
    links: u16(0x1a),
    mtimeSec: bytes.readInt32LE(0x10) + (timeExtra & 3) * 2 ** 32,
    mtimeNsec: Math.min(timeExtra >>> 2, 999_999_999),
    flags: u32(0x20),
    iBlock: Buffer.from(bytes.subarray(0x28, 0x28 + I_BLOCK_BYTES)),
    xattrBlock: u32(0x68) + (volume.superblock.is64Bit ? u16(0x76) * 2 ** 32 : 0),
    tail:
      bytes.length > OLD_INODE_BYTES ? Buffer.from(bytes.subarray(OLD_INODE_BYTES + extra)) : Buffer.alloc(0),
  };
}

/** The first block of a group's inode table. */
function inodeTable(volume: Volume, group: number): number {
  const { superblock } = volume;
  const block = descriptorBlock(volume, group);
  if (!volume.hasBlocks(block, 1)) {
    throw volume.invalid(`group ${group}: its descriptor would be in block ${block} of ${superblock.blocks}`);
  }
  const at = (group * superblock.descriptorSize) % superblock.blockSize;
  const descriptor = volume.block(block).subarray(at, at + superblock.descriptorSize);
  const high = superblock.is64Bit ? descriptor.readUInt32LE(0x28) : 0;
  return descriptor.readUInt32LE(0x08) + high * 2 ** 32;
}

/** With meta_bg a block of descriptors stands in the first of the groups that it describes. */
function descriptorBlock(volume: Volume, group: number): number {
  const { firstDataBlock, blockSize, descriptorSize, blocksPerGroup, firstMetaGroup, hasBackup } =
    volume.superblock;
  const perBlock = blockSize / descriptorSize;
  const metaGroup = Math.floor(group / perBlock);
  if (metaGroup < firstMetaGroup) return Math.floor(SUPERBLOCK_OFFSET / blockSize) + 1 + metaGroup;
  const first = metaGroup * perBlock;
  return firstDataBlock + first * blocksPerGroup + (hasBackup(first) ? 1 : 0);
}
