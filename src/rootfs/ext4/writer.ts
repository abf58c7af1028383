import type { BlockFile } from "./block-file.ts";
import { descriptorChecksum } from "./checksum.ts";
import { encodeDirectory } from "./directory.ts";
import { buildExtentTree, extentsOf, MAX_EXTENT_BLOCKS } from "./extents.ts";
import {
  BLOCK_SIZE,
  BLOCKS_PER_GROUP,
  DESCRIPTOR_CHECKSUM_OFFSET,
  DESCRIPTOR_SIZE,
  encodeDescriptor,
  encodeDevice,
  encodeInode,
  encodeJournalSuperblock,
  encodeSuperblock,
  FIRST_INODE,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  INODE_FLAG_EXTENTS,
  INODE_FLAG_INDEX,
  INODE_SIZE,
  JOURNAL_INODE,
  MAX_FAST_SYMLINK,
  MAX_LINKS,
  MODE_BLOCK_DEVICE,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_FILE,
  MODE_SYMLINK,
  MODE_TYPE,
  ROOT_INODE,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "./format.ts";
import type { Layout } from "./layout.ts";
import { directoryInode, type Inode, type Run } from "./tree.ts";
import { encodeXattrs, setBlockReferences } from "./xattr.ts";

/** What the superblock says beyond the layout. */
export interface FilesystemIdentity {
  /** 16 bytes. */
  readonly uuid: Buffer;
  readonly label: string;
  readonly readOnly: boolean;
}

/** Writes everything that `layout` plans; the file's data is there already. The superblock goes last. */
export function writeFilesystem(file: BlockFile, layout: Layout, identity: FilesystemIdentity): void {
  writeDirectories(file, layout);
  writeSymlinks(file, layout);
  for (const tree of layout.extentTrees.values()) {
    for (const { block, bytes } of tree.blocks) writeAt(file, block, bytes);
  }
  writeXattrBlocks(file, layout);
  if (layout.journal !== undefined) {
    const { physical, length } = layout.journal;
    writeAt(file, physical, encodeJournalSuperblock(length, identity.uuid));
  }
  writeBitmaps(file, layout);
  writeInodes(file, layout);
  writeDescriptors(file, layout, identity.uuid);
  file.seekByte(SUPERBLOCK_OFFSET);
  file.write(superblock(layout, identity));
  file.flush();
}

function writeAt(file: BlockFile, block: number, bytes: Buffer): void {
  file.seek(block);
  file.write(bytes);
}

function writeDirectories(file: BlockFile, layout: Layout): void {
  for (const [inode, { node, parent }] of layout.tree.directories) {
    const plan = layout.directoryPlans.get(inode);
    if (plan === undefined) throw new Error("every directory is planned");
    file.seek(layout.contentBlocks.get(inode) ?? 0);
    encodeDirectory(node, plan, { parent: parent.number, emit: (block) => file.write(block) });
  }
}

function writeSymlinks(file: BlockFile, layout: Layout): void {
  const bytes = Buffer.alloc(BLOCK_SIZE);
  for (const [inode, block] of layout.contentBlocks) {
    if ((inode.mode & MODE_TYPE) !== MODE_SYMLINK) continue;
    bytes.fill(0);
    bytes.write(inode.target, "latin1");
    writeAt(file, block, bytes);
  }
}

function writeXattrBlocks(file: BlockFile, layout: Layout): void {
  const written = new Set<number>();
  for (const [inode, { block, references }] of layout.xattrBlocks) {
    if (written.has(block)) continue;
    written.add(block);
    const { block: bytes } = encodeXattrs(inode.xattrs ?? []);
    if (bytes === undefined) throw new Error("only attributes that need a block are given one");
    setBlockReferences(bytes, references);
    writeAt(file, block, bytes);
  }
}

function writeBitmaps(file: BlockFile, layout: Layout): void {
  const bitmap = Buffer.alloc(BLOCK_SIZE);
  let firstRun = 0;
  layout.groups.forEach((group, index) => {
    if ((group.flags & GROUP_BLOCK_UNINIT) !== 0) return;
    const start = index * BLOCKS_PER_GROUP;
    const end = start + BLOCKS_PER_GROUP;
    // Used unless free; what lies beyond the filesystem's end counts as used.
    bitmap.fill(0xff);
    while ((layout.free[firstRun]?.physical ?? end) + (layout.free[firstRun]?.length ?? 0) <= start)
      firstRun++;
    for (let i = firstRun; i < layout.free.length; i++) {
      const run = layout.free[i];
      if (run === undefined || run.physical >= end) break;
      clearBits(
        bitmap,
        Math.max(run.physical, start) - start,
        Math.min(run.physical + run.length, end) - start,
      );
    }
    writeAt(file, group.blockBitmap, bitmap);
  });
  for (const group of layout.groups) {
    if ((group.flags & GROUP_INODE_UNINIT) !== 0) continue;
    bitmap.fill(0xff);
    clearBits(bitmap, layout.inodesPerGroup - group.freeInodes, layout.inodesPerGroup);
    writeAt(file, group.inodeBitmap, bitmap);
  }
}

function clearBits(bitmap: Buffer, from: number, to: number): void {
  let bit = from;
  while (bit < to) {
    if (bit % 8 === 0 && bit + 8 <= to) {
      const bytes = Math.floor((to - bit) / 8);
      bitmap.fill(0, bit / 8, bit / 8 + bytes);
      bit += bytes * 8;
    } else {
      const index = bit >> 3;
      bitmap[index] = (bitmap[index] ?? 0) & ~(1 << (bit & 7));
      bit++;
    }
  }
}

/** The inode tables follow one another and numbers have no gaps, so they are written as one stream. */
function writeInodes(file: BlockFile, layout: Layout): void {
  const bytes = Buffer.alloc(INODE_SIZE);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, INODE_SIZE / 4);
  file.seek(layout.inodeTable);
  const root = layout.tree.directories.keys().next().value;
  for (let number = 1; number < FIRST_INODE; number++) {
    words.fill(0);
    if (number === ROOT_INODE && root !== undefined) fillInode(root, layout, bytes, words);
    if (number === JOURNAL_INODE && layout.journal !== undefined) fillJournalInode(layout.journal, words);
    file.write(bytes);
  }
  for (const inode of layout.tree.inodes) {
    words.fill(0);
    fillInode(inode, layout, bytes, words);
    file.write(bytes);
  }
  file.pad();
}

/** Byte of i_block in an inode, and its word. */
const I_BLOCK = 40;
const I_BLOCK_WORD = 10;
const XATTR_BYTE = 160;

function fillInode(inode: Inode, layout: Layout, bytes: Buffer, words: Uint32Array): void {
  let flags = 0;
  let blocks = 0;
  let { size } = inode;
  switch (inode.mode & MODE_TYPE) {
    case MODE_FILE:
      flags = INODE_FLAG_EXTENTS;
      blocks = inode.block === 0 ? 0 : Math.ceil(size / BLOCK_SIZE);
      if (inode.runs !== undefined) blocks = inode.runs.reduce((sum, run) => sum + run.length, 0);
      blocks += fillExtents(inode, layout, { bytes, words, first: inode.block, blocks });
      break;
    case MODE_DIRECTORY: {
      const plan = layout.directoryPlans.get(inode);
      flags = INODE_FLAG_EXTENTS | (plan?.leaves === undefined ? 0 : INODE_FLAG_INDEX);
      blocks = plan?.blocks ?? 0;
      size = blocks * BLOCK_SIZE;
      const first = layout.contentBlocks.get(inode) ?? 0;
      blocks += fillExtents(inode, layout, { bytes, words, first, blocks });
      break;
    }
    case MODE_SYMLINK:
      size = inode.target.length;
      if (size <= MAX_FAST_SYMLINK) {
        bytes.write(inode.target, I_BLOCK, "latin1");
      } else {
        flags = INODE_FLAG_EXTENTS;
        blocks = 1;
        fillContiguous(words, layout.contentBlocks.get(inode) ?? 0, blocks);
      }
      break;
    case MODE_CHARACTER_DEVICE:
    case MODE_BLOCK_DEVICE: {
      const [old, extended] = encodeDevice(inode.devMajor, inode.devMinor);
      words[I_BLOCK_WORD] = old;
      words[I_BLOCK_WORD + 1] = extended;
      size = 0;
      break;
    }
    default:
      size = 0;
  }
  if (inode.xattrs !== undefined) encodeXattrs(inode.xattrs).inode?.copy(bytes, XATTR_BYTE);
  const xattrBlock = inode.xattrs === undefined ? 0 : (layout.xattrBlocks.get(inode)?.block ?? 0);
  encodeInode(words, 0, {
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    size,
    links: inode.links > MAX_LINKS ? 1 : inode.links,
    atimeSec: inode.atimeSec,
    atimeNsec: inode.atimeNsec,
    mtimeSec: inode.mtimeSec,
    mtimeNsec: inode.mtimeNsec,
    flags,
    blocks: blocks + (xattrBlock === 0 ? 0 : 1),
    xattrBlock,
  });
}

/** Fills i_block with the planned extent tree, or the extents of one piece; returns the blocks the tree takes. */
function fillExtents(
  inode: Inode,
  layout: Layout,
  into: { bytes: Buffer; words: Uint32Array; first: number; blocks: number },
): number {
  const tree = layout.extentTrees.get(inode);
  if (tree === undefined) {
    fillContiguous(into.words, into.first, into.blocks);
    return 0;
  }
  tree.root.copy(into.bytes, I_BLOCK);
  return tree.blocks.length;
}

/** The extents of blocks that follow one another, at most four. Nearly every inode of an image is one of these. */
function fillContiguous(words: Uint32Array, block: number, length: number): void {
  if (length > MAX_EXTENT_BLOCKS) {
    const { root } = buildExtentTree(extentsOf([{ logical: 0, physical: block, length }]), () => {
      throw new Error("only files of up to four extents have them in the inode alone");
    });
    for (let i = 0; i < 15; i++) words[I_BLOCK_WORD + i] = root.readUInt32LE(4 * i);
    return;
  }
  words[I_BLOCK_WORD] = 0xf30a | ((length === 0 ? 0 : 1) << 16); // eh_magic, eh_entries
  words[I_BLOCK_WORD + 1] = 4; // eh_max, eh_depth
  if (length === 0) return;
  words[I_BLOCK_WORD + 4] = length; // ee_len, ee_start_hi; ee_block is 0
  words[I_BLOCK_WORD + 5] = block; // ee_start_lo
}

function fillJournalInode({ physical, length }: Run, words: Uint32Array): void {
  fillContiguous(words, physical, length);
  encodeInode(words, 0, {
    ...directoryInode(0),
    mode: MODE_FILE | 0o600,
    size: length * BLOCK_SIZE,
    links: 1,
    flags: INODE_FLAG_EXTENTS,
    blocks: length,
    xattrBlock: 0,
  });
}

function writeDescriptors(file: BlockFile, layout: Layout, uuid: Buffer): void {
  const bytes = Buffer.alloc(layout.groups.length * DESCRIPTOR_SIZE);
  layout.groups.forEach((group, index) => {
    const at = index * DESCRIPTOR_SIZE;
    encodeDescriptor(bytes, at, group);
    const covered = bytes.subarray(at, at + DESCRIPTOR_CHECKSUM_OFFSET);
    bytes.writeUInt16LE(descriptorChecksum(uuid, index, covered), at + DESCRIPTOR_CHECKSUM_OFFSET);
  });
  file.seek(1);
  file.write(bytes);
  file.pad();
}

function superblock(layout: Layout, identity: FilesystemIdentity): Buffer {
  const bytes = Buffer.alloc(SUPERBLOCK_SIZE);
  const sum = (pick: (group: Layout["groups"][number]) => number) =>
    layout.groups.reduce((total, group) => total + pick(group), 0);
  let journal: { iBlock: Uint32Array; size: number } | undefined;
  if (layout.journal !== undefined) {
    const words = new Uint32Array(I_BLOCK_WORD + 15);
    fillContiguous(words, layout.journal.physical, layout.journal.length);
    journal = { iBlock: words.subarray(I_BLOCK_WORD), size: layout.journal.length * BLOCK_SIZE };
  }
  encodeSuperblock(bytes, 0, {
    inodes: layout.inodesPerGroup * layout.groups.length,
    inodesPerGroup: layout.inodesPerGroup,
    blocks: layout.blocks,
    freeBlocks: sum((group) => group.freeBlocks),
    freeInodes: sum((group) => group.freeInodes),
    uuid: identity.uuid,
    label: identity.label,
    readOnly: identity.readOnly,
    journal,
  });
  return bytes;
}
