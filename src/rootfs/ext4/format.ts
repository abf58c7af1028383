/*
 * The ext4 structures that firectl writes, field by field. All integers little-endian, blocks of 4 KiB, inodes
 * of 256 bytes. https://www.kernel.org/doc/html/latest/filesystems/ext4/
 *
 * The disk of a filesystem that firectl makes:
 *
 *   block 0      1024 bytes unused, superblock at byte 1024
 *   block 1 …    group descriptors, 32 bytes each (no backups: sparse_super2 without any)
 *   then         file data, one file after the other, in the order in which the layers were read
 *   then         directories, long symlinks, extent blocks, attribute blocks and values
 *   then         the journal (writable ones), block and inode bitmaps, the inode tables of all groups in a row
 *   to the end   free space, a hole in the image file (writable ones)
 *
 * flex_bg is what lets bitmaps and inode tables stand outside their groups, so that data is contiguous.
 */

export const BLOCK_SIZE = 4096;
/** As many as a block of bits tells apart; groups can be smaller. */
export const BLOCKS_PER_GROUP = 32_768;
export const MAX_INODES_PER_GROUP = 32_768;
export const INODE_SIZE = 256;
export const INODES_PER_BLOCK: number = BLOCK_SIZE / INODE_SIZE;
export const DESCRIPTOR_SIZE = 32;
export const DESCRIPTORS_PER_BLOCK: number = BLOCK_SIZE / DESCRIPTOR_SIZE;
export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 1024;

export const ROOT_INODE = 2;
export const JOURNAL_INODE = 8;
/** Inodes 1 to 10 are the filesystem's own. */
export const FIRST_INODE = 11;

/** Block numbers and logical blocks have 32 bits here (no 64bit feature): 16 TiB. */
export const MAX_BLOCKS: number = 2 ** 32 - 1;
export const MAX_FILE_BYTES: number = (2 ** 32 - 2) * BLOCK_SIZE;
/** EXT4_LINK_MAX: beyond it a directory's link count reads 1 (dir_nlink), a file takes no more links. */
export const MAX_LINKS = 65_000;
/** Symlinks up to this many bytes live in the inode. */
export const MAX_FAST_SYMLINK = 59;

export const MODE_TYPE = 0xf000;
export const MODE_FIFO = 0x1000;
export const MODE_CHARACTER_DEVICE = 0x2000;
export const MODE_DIRECTORY = 0x4000;
export const MODE_BLOCK_DEVICE = 0x6000;
export const MODE_FILE = 0x8000;
export const MODE_SYMLINK = 0xa000;
export const MODE_SOCKET = 0xc000;

export const INODE_FLAG_EXTENTS = 0x80000;
export const INODE_FLAG_INDEX = 0x1000;
/** The inode is the value of an extended attribute. */
export const INODE_FLAG_VALUE = 0x20_0000;

const COMPAT_HAS_JOURNAL = 0x4;
const COMPAT_EXT_ATTR = 0x8;
const COMPAT_DIR_INDEX = 0x20;
const COMPAT_SPARSE_SUPER2 = 0x200;
const INCOMPAT_FILETYPE = 0x2;
const INCOMPAT_EXTENTS = 0x40;
const INCOMPAT_FLEX_BG = 0x200;
const INCOMPAT_EA_INODE = 0x400;
const RO_COMPAT_LARGE_FILE = 0x2;
const RO_COMPAT_HUGE_FILE = 0x8;
const RO_COMPAT_GDT_CSUM = 0x10;
const RO_COMPAT_DIR_NLINK = 0x20;
const RO_COMPAT_EXTRA_ISIZE = 0x40;
const RO_COMPAT_READONLY = 0x1000;

export const GROUP_INODE_UNINIT = 0x1;
export const GROUP_BLOCK_UNINIT = 0x2;
export const GROUP_INODE_ZEROED = 0x4;

/** i_extra_isize: the fields after the first 128 bytes that are in use. */
const EXTRA_ISIZE = 32;
/** Where an inode's own extended attributes begin. */
export const INODE_XATTR_OFFSET: number = 128 + EXTRA_ISIZE;

export interface SuperblockFields {
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly blocks: number;
  readonly blocksPerGroup: number;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  /** 16 bytes. */
  readonly uuid: Buffer;
  /** At most 16 bytes. */
  readonly label: string;
  readonly readOnly: boolean;
  /** Whether there are attribute values in inodes of their own; kernels before 4.13 cannot mount that. */
  readonly valueInodes: boolean;
  /** i_block of the journal's inode and the journal's size in bytes, for a filesystem that has one. */
  readonly journal: { readonly iBlock: Uint32Array; readonly size: number } | undefined;
}

/** Writes the superblock's 1024 bytes at `at`; fields left out are zero. */
export function encodeSuperblock(bytes: Buffer, at: number, fields: SuperblockFields): void {
  const u16 = (offset: number, value: number) => bytes.writeUInt16LE(value, at + offset);
  const u32 = (offset: number, value: number) => bytes.writeUInt32LE(value >>> 0, at + offset);
  u32(0x00, fields.inodes); // s_inodes_count
  u32(0x04, fields.blocks); // s_blocks_count_lo
  u32(0x0c, fields.freeBlocks); // s_free_blocks_count_lo
  u32(0x10, fields.freeInodes); // s_free_inodes_count
  u32(0x14, 0); // s_first_data_block
  u32(0x18, 2); // s_log_block_size: 1024 << 2
  u32(0x1c, 2); // s_log_cluster_size
  u32(0x20, fields.blocksPerGroup); // s_blocks_per_group
  u32(0x24, fields.blocksPerGroup); // s_clusters_per_group
  u32(0x28, fields.inodesPerGroup); // s_inodes_per_group
  u16(0x36, 0xffff); // s_max_mnt_count: never ask for a check
  u16(0x38, 0xef53); // s_magic
  u16(0x3a, 1); // s_state: clean
  u16(0x3c, 1); // s_errors: continue
  u32(0x4c, 1); // s_rev_level: dynamic
  u32(0x54, FIRST_INODE); // s_first_ino
  u16(0x58, INODE_SIZE); // s_inode_size
  u32(
    0x5c, // s_feature_compat
    COMPAT_EXT_ATTR |
      COMPAT_DIR_INDEX |
      COMPAT_SPARSE_SUPER2 |
      (fields.journal === undefined ? 0 : COMPAT_HAS_JOURNAL),
  );
  u32(
    0x60, // s_feature_incompat
    INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG | (fields.valueInodes ? INCOMPAT_EA_INODE : 0),
  );
  u32(
    0x64, // s_feature_ro_compat
    RO_COMPAT_LARGE_FILE |
      RO_COMPAT_HUGE_FILE |
      RO_COMPAT_GDT_CSUM |
      RO_COMPAT_DIR_NLINK |
      RO_COMPAT_EXTRA_ISIZE |
      (fields.readOnly ? RO_COMPAT_READONLY : 0),
  );
  fields.uuid.copy(bytes, at + 0x68); // s_uuid
  bytes.write(fields.label, at + 0x78, 16, "latin1"); // s_volume_name
  fields.uuid.copy(bytes, at + 0xec); // s_hash_seed: any fixed value, so that the bytes are reproducible
  bytes[at + 0xfc] = HASH_HALF_MD4; // s_def_hash_version
  u32(0x100, 0x000c); // s_default_mount_opts: user_xattr, acl
  u16(0x15c, EXTRA_ISIZE); // s_min_extra_isize
  u16(0x15e, EXTRA_ISIZE); // s_want_extra_isize
  u32(0x160, 0x1); // s_flags: directory hashes take characters as signed
  bytes[at + 0x174] = 4; // s_log_groups_per_flex
  // s_backup_bgs at 0x24c stays zero: no group holds a backup.
  if (fields.journal === undefined) return;
  u32(0xe0, JOURNAL_INODE); // s_journal_inum
  bytes[at + 0xfd] = 1; // s_jnl_backup_type: s_jnl_blocks holds a copy of the journal inode's i_block and size
  for (let i = 0; i < 15; i++) u32(0x10c + 4 * i, fields.journal.iBlock[i] ?? 0);
  u32(0x10c + 60, Math.floor(fields.journal.size / 2 ** 32));
  u32(0x10c + 64, fields.journal.size);
}

/** DX_HASH_HALF_MD4, the hash of indexed directories. */
export const HASH_HALF_MD4 = 1;

export interface GroupFields {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly usedDirectories: number;
  readonly flags: number;
  /** Inodes at the end of the table that were never used. */
  readonly unusedInodes: number;
}

/** Writes a group descriptor's 32 bytes at `at`; its checksum is the caller's. */
export function encodeDescriptor(bytes: Buffer, at: number, group: GroupFields): void {
  bytes.writeUInt32LE(group.blockBitmap, at); // bg_block_bitmap_lo
  bytes.writeUInt32LE(group.inodeBitmap, at + 0x4); // bg_inode_bitmap_lo
  bytes.writeUInt32LE(group.inodeTable, at + 0x8); // bg_inode_table_lo
  bytes.writeUInt16LE(group.freeBlocks, at + 0xc); // bg_free_blocks_count_lo
  bytes.writeUInt16LE(group.freeInodes, at + 0xe); // bg_free_inodes_count_lo
  bytes.writeUInt16LE(group.usedDirectories, at + 0x10); // bg_used_dirs_count_lo
  bytes.writeUInt16LE(group.flags, at + 0x12); // bg_flags
  bytes.writeUInt16LE(group.unusedInodes, at + 0x1c); // bg_itable_unused_lo
}

/** Where bg_checksum stands in a descriptor. */
export const DESCRIPTOR_CHECKSUM_OFFSET = 0x1e;

export interface InodeFields {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  /** Low words of times, and what {@link timeExtra} makes of the rest. */
  readonly atime: number;
  readonly atimeExtra: number;
  readonly mtime: number;
  readonly mtimeExtra: number;
  readonly flags: number;
  /** Blocks of 4 KiB that belong to it: data, extent and attribute blocks. */
  readonly blocks: number;
  /** The attribute block, 0 when there is none. */
  readonly xattrBlock: number;
}

/**
 * Writes an inode's fixed part as 32-bit words from `words[at]`, i_block (words 10 to 24) and the attributes
 * after byte 160 left alone. Words, because this runs once for every file of an image; the hosts that firectl
 * runs on are little-endian.
 */
export function encodeInode(words: Uint32Array, at: number, inode: InodeFields): void {
  const sectors = inode.blocks * 8;
  words[at] = inode.mode | ((inode.uid & 0xffff) << 16); // i_mode, i_uid
  words[at + 1] = inode.size % 2 ** 32; // i_size_lo
  words[at + 2] = inode.atime; // i_atime
  words[at + 3] = inode.mtime; // i_ctime: what the image says, so that the bytes are reproducible
  words[at + 4] = inode.mtime; // i_mtime
  words[at + 5] = 0; // i_dtime
  words[at + 6] = (inode.gid & 0xffff) | (inode.links << 16); // i_gid, i_links_count
  words[at + 7] = sectors % 2 ** 32; // i_blocks_lo, in 512-byte units
  words[at + 8] = inode.flags; // i_flags
  words[at + 9] = 0; // i_version
  words[at + 25] = 0; // i_generation
  words[at + 26] = inode.xattrBlock; // i_file_acl_lo
  words[at + 27] = Math.floor(inode.size / 2 ** 32); // i_size_high
  words[at + 28] = 0; // i_obso_faddr
  words[at + 29] = Math.floor(sectors / 2 ** 32); // l_i_blocks_high, l_i_file_acl_high
  words[at + 30] = (inode.uid >>> 16) | ((inode.gid >>> 16) << 16); // l_i_uid_high, l_i_gid_high
  words[at + 31] = 0; // l_i_checksum_lo, l_i_reserved
  words[at + 32] = EXTRA_ISIZE; // i_extra_isize, i_checksum_hi
  words[at + 33] = inode.mtimeExtra; // i_ctime_extra
  words[at + 34] = inode.mtimeExtra; // i_mtime_extra
  words[at + 35] = inode.atimeExtra; // i_atime_extra
  words[at + 36] = inode.mtime; // i_crtime
  words[at + 37] = inode.mtimeExtra; // i_crtime_extra
  words[at + 38] = 0; // i_version_hi
  words[at + 39] = 0; // i_projid
}

/** The range of i_[acm]time with its two epoch bits, in seconds. */
export const MIN_TIME: number = -(2 ** 31);
export const MAX_TIME: number = 2 ** 34 - 2 ** 31 - 1;

/**
 * i_[acm]time_extra: nanoseconds above two bits that count how many times 2^32 seconds are to be added to the
 * signed low word.
 */
export function timeExtra(sec: number, nsec: number): number {
  const low = sec | 0;
  const epoch = ((sec - low) / 2 ** 32) & 3;
  return ((nsec << 2) | epoch) >>> 0;
}

/** i_block of a device: the old 16-bit form where it fits, else new_encode_dev() of the kernel's kdev_t.h. */
export function encodeDevice(major: number, minor: number): readonly [number, number] {
  if (major < 256 && minor < 256) return [(major << 8) | minor, 0];
  return [0, ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0];
}
/** Largest device numbers of the kernel's 32-bit dev_t. */
export const MAX_MAJOR = 0xfff;
export const MAX_MINOR = 0xfffff;

/** The first block of an empty JBD2 journal, big-endian. https://www.kernel.org/doc/html/latest/filesystems/ext4/journal.html#super-block */
export function encodeJournalSuperblock(blocks: number, uuid: Buffer): Buffer {
  const bytes = Buffer.alloc(BLOCK_SIZE);
  bytes.writeUInt32BE(0xc03b3998, 0x0); // h_magic
  bytes.writeUInt32BE(4, 0x4); // h_blocktype: superblock v2
  bytes.writeUInt32BE(BLOCK_SIZE, 0xc); // s_blocksize
  bytes.writeUInt32BE(blocks, 0x10); // s_maxlen
  bytes.writeUInt32BE(1, 0x14); // s_first
  bytes.writeUInt32BE(1, 0x18); // s_sequence
  // s_start at 0x1c is 0: the journal is empty, so what its other blocks hold does not matter.
  uuid.copy(bytes, 0x30); // s_uuid
  bytes.writeUInt32BE(1, 0x40); // s_nr_users
  return bytes;
}
