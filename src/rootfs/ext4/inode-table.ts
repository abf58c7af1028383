import type { BlockFile } from "./block-file.ts";
import { buildExtentTree, extentsOf, MAX_EXTENT_BLOCKS } from "./extents.ts";
import {
  BLOCK_SIZE,
  encodeDevice,
  encodeInode,
  FIRST_INODE,
  INODE_FLAG_EXTENTS,
  INODE_FLAG_INDEX,
  INODE_SIZE,
  INODE_XATTR_OFFSET,
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
} from "./format.ts";
import type { Layout } from "./layout.ts";
import { directoryInode, type Inode, type Run } from "./tree.ts";
import { encodeXattrs } from "./xattr.ts";

/** The inode tables follow one another and numbers have no gaps, so they are written as one stream. */
export function writeInodes(file: BlockFile, layout: Layout): void {
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
export const I_BLOCK_WORD = 10;

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
  if (inode.xattrs !== undefined) encodeXattrs(inode.xattrs).inode?.copy(bytes, INODE_XATTR_OFFSET);
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
export function fillContiguous(words: Uint32Array, block: number, length: number): void {
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
