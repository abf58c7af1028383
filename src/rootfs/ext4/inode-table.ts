import type { BlockFile } from "./block-file.ts";
import { buildExtentTree, extentsOf, MAX_EXTENT_BLOCKS } from "./extents.ts";
import {
  BLOCK_SIZE,
  encodeInode,
  FIRST_INODE,
  INODE_FLAG_EXTENTS,
  INODE_FLAG_INDEX,
  INODE_FLAG_VALUE,
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
  timeExtra,
} from "./format.ts";
import type { InodeId, Run } from "./inodes.ts";
import type { Layout } from "./layout.ts";
import type { DirectoryId } from "./tree.ts";
import { encodeInInode, largeValues, MAX_BLOCK_REFERENCES, valueHash } from "./xattr.ts";
import type { ContentId, ValueInode } from "./xattr-layout.ts";
import type { XattrSetId } from "./xattr-sets.ts";

/**
 * The inode tables follow one another and numbers have no gaps, so they are written as one stream.
 * @param seed Of the checksums of attribute values.
 */
export function writeInodes(file: BlockFile, layout: Layout, seed: number): void {
  new InodeWriter(file, layout, seed).write();
}

/** Byte of i_block in an inode, and its word. */
const I_BLOCK = 40;
export const I_BLOCK_WORD = 10;

/** Owner and times of what is the filesystem's own. */
const OWN_ATTRIBUTES = {
  mode: MODE_FILE | 0o600,
  uid: 0,
  gid: 0,
  atime: 0,
  atimeExtra: 0,
  mtime: 0,
  mtimeExtra: 0,
};

/** So many encoded sets of attributes are kept at hand. */
const CACHED_SETS = 1024;

/** What an inode's content comes to. */
interface Content {
  readonly flags: number;
  readonly size: number;
  /** Of data and extents. */
  readonly blocks: number;
}

class InodeWriter {
  readonly #file: BlockFile;
  readonly #layout: Layout;
  readonly #seed: number;
  readonly #bytes: Buffer = Buffer.alloc(INODE_SIZE);
  /** The same as words. */
  readonly #words: Uint32Array;
  /** What of attribute sets goes into the inode itself. */
  readonly #encoded: Map<XattrSetId, Buffer | undefined> = new Map();
  /** How many of the inodes have been written that lead to attributes in several blocks. */
  readonly #uses: Map<ContentId, number> = new Map();

  constructor(file: BlockFile, layout: Layout, seed: number) {
    this.#file = file;
    this.#layout = layout;
    this.#seed = seed;
    this.#words = new Uint32Array(this.#bytes.buffer, this.#bytes.byteOffset, INODE_SIZE / 4);
  }

  write(): void {
    const { numbered, inodeTable, journal, xattrs } = this.#layout;
    this.#file.seek(inodeTable);
    for (let number = 1; number < FIRST_INODE; number++) {
      const [root] = numbered.directories;
      if (number === ROOT_INODE && root !== undefined) {
        this.#inode(numbered.tree.inode(numbered.tree.place(root)));
      } else {
        if (number === JOURNAL_INODE && journal !== undefined) this.#journal(journal);
        this.#emit();
      }
    }
    for (const inode of numbered.inodes) this.#inode(inode);
    if (xattrs.valueInodes.length > 0) {
      for (const content of xattrs.contents()) {
        for (const value of xattrs.values(content)) this.#value(content, value);
      }
    }
    this.#file.pad();
  }

  #emit(): void {
    this.#file.write(this.#bytes);
    this.#words.fill(0);
  }

  #inode(inode: InodeId): void {
    const table = this.#layout.numbered.tree.inodes;
    const content = this.#content(inode);
    const set = table.xattrs(inode);
    const outside = set === undefined ? undefined : this.#layout.xattrs.contentOf(set);
    if (set !== undefined) this.#inlineXattrs(set);
    const xattrBlock = outside === undefined ? 0 : this.#nextBlock(outside);
    const links = table.links(inode);
    const attributes = table.attributes(inode);
    // Each field by its name: spreading objects into one costs more than all else here.
    encodeInode(this.#words, 0, {
      mode: attributes.mode,
      uid: attributes.uid,
      gid: attributes.gid,
      atime: attributes.atime,
      atimeExtra: attributes.atimeExtra,
      mtime: attributes.mtime,
      mtimeExtra: attributes.mtimeExtra,
      flags: content.flags,
      size: content.size,
      links: links > MAX_LINKS ? 1 : links,
      blocks: content.blocks + (outside === undefined ? 0 : 1 + this.#valueBlocks(outside)),
      xattrBlock,
    });
    this.#emit();
  }

  #content(inode: InodeId): Content {
    const { tree } = this.#layout.numbered;
    const table = tree.inodes;
    const size = table.size(inode);
    switch (table.mode(inode) & MODE_TYPE) {
      case MODE_FILE: {
        const runs = table.runs(inode);
        const first = table.block(inode);
        if (runs !== undefined)
          return { flags: INODE_FLAG_EXTENTS, size, blocks: this.#extents(inode, runs) };
        const length = first === 0 ? 0 : Math.ceil(size / BLOCK_SIZE);
        return { flags: INODE_FLAG_EXTENTS, size, blocks: this.#contiguous(inode, first, length) };
      }
      case MODE_DIRECTORY: {
        // What numbering has put there.
        const directory = table.block(inode) as DirectoryId;
        const { first, blocks, indexes } = this.#layout.directories;
        const length = blocks[directory] ?? 0;
        return {
          flags: INODE_FLAG_EXTENTS | (indexes.has(directory) ? INODE_FLAG_INDEX : 0),
          size: length * BLOCK_SIZE,
          blocks: this.#contiguous(inode, first[directory] ?? 0, length),
        };
      }
      case MODE_SYMLINK:
        if (size <= MAX_FAST_SYMLINK) {
          this.#bytes.write(table.target(inode), I_BLOCK, "latin1");
          return { flags: 0, size, blocks: 0 };
        }
        fillContiguous(this.#words, this.#layout.symlinkBlocks.get(inode) ?? 0, 1);
        return { flags: INODE_FLAG_EXTENTS, size, blocks: 1 };
      case MODE_CHARACTER_DEVICE:
      case MODE_BLOCK_DEVICE: {
        const [old, extended] = table.device(inode);
        this.#words[I_BLOCK_WORD] = old;
        this.#words[I_BLOCK_WORD + 1] = extended;
        return { flags: 0, size: 0, blocks: 0 };
      }
      default:
        return { flags: 0, size: 0, blocks: 0 };
    }
  }

  /** Fills i_block for blocks in one piece; returns how many they are, those of the extent tree included. */
  #contiguous(inode: InodeId, first: number, length: number): number {
    if (this.#layout.extentBlocks.has(inode)) {
      return this.#extents(inode, [{ logical: 0, physical: first, length }]);
    }
    fillContiguous(this.#words, first, length);
    return length;
  }

  #extents(inode: InodeId, runs: readonly Run[]): number {
    const tree = buildExtentTree(extentsOf(runs), this.#layout.extentBlocks.get(inode)?.physical ?? 0);
    tree.root.copy(this.#bytes, I_BLOCK);
    return runs.reduce((sum, run) => sum + run.length, tree.blocks.length);
  }

  #inlineXattrs(set: XattrSetId): void {
    if (!this.#encoded.has(set)) {
      if (this.#encoded.size === CACHED_SETS) this.#encoded.clear();
      const { xattrSets } = this.#layout.numbered.tree.inodes;
      this.#encoded.set(set, encodeInInode(xattrSets.get(set)));
    }
    this.#encoded.get(set)?.copy(this.#bytes, INODE_XATTR_OFFSET);
  }

  #nextBlock(content: ContentId): number {
    const { xattrs } = this.#layout;
    if (xattrs.blockCount(content) === 1) return xattrs.block(content, 0);
    const use = this.#uses.get(content) ?? 0;
    this.#uses.set(content, use + 1);
    return xattrs.block(content, Math.floor(use / MAX_BLOCK_REFERENCES));
  }

  /** Blocks of large values, which count as those of each inode that has them. */
  #valueBlocks(content: ContentId): number {
    const values = this.#layout.xattrs.values(content);
    return values.reduce((sum, { size }) => sum + Math.ceil(size / BLOCK_SIZE), 0);
  }

  /**
   * A value's inode: i_atime is its checksum, i_ctime and i_version the high and low word of how many attribute
   * blocks lead to it. See ext4_xattr_inode_create() of the kernel's fs/ext4/xattr.c.
   */
  #value(content: ContentId, { index, size, block }: ValueInode): void {
    const { numbered, xattrs } = this.#layout;
    const set = numbered.tree.inodes.xattrSets.get(xattrs.setOf(content));
    const value = largeValues(set)[index] ?? Buffer.alloc(0);
    const hash = valueHash(value, this.#seed);
    const length = Math.ceil(size / BLOCK_SIZE);
    fillContiguous(this.#words, block, length);
    encodeInode(this.#words, 0, {
      ...OWN_ATTRIBUTES,
      atime: hash,
      atimeExtra: timeExtra(hash, 0),
      size,
      links: 1,
      flags: INODE_FLAG_EXTENTS | INODE_FLAG_VALUE,
      blocks: length,
      xattrBlock: 0,
    });
    this.#words[9] = xattrs.blockCount(content); // i_version
    this.#emit();
  }

  #journal({ physical, length }: Run): void {
    fillContiguous(this.#words, physical, length);
    encodeInode(this.#words, 0, {
      ...OWN_ATTRIBUTES,
      size: length * BLOCK_SIZE,
      links: 1,
      flags: INODE_FLAG_EXTENTS,
      blocks: length,
      xattrBlock: 0,
    });
  }
}

/** The extents of blocks that follow one another, at most four. Nearly every inode of an image is one of these. */
export function fillContiguous(words: Uint32Array, block: number, length: number): void {
  if (length > MAX_EXTENT_BLOCKS) {
    const { root } = buildExtentTree(extentsOf([{ logical: 0, physical: block, length }]), 0);
    for (let i = 0; i < 15; i++) words[I_BLOCK_WORD + i] = root.readUInt32LE(4 * i);
    return;
  }
  words[I_BLOCK_WORD] = 0xf30a | ((length === 0 ? 0 : 1) << 16); // eh_magic, eh_entries
  words[I_BLOCK_WORD + 1] = 4; // eh_max, eh_depth
  if (length === 0) return;
  words[I_BLOCK_WORD + 4] = length; // ee_len, ee_start_hi; ee_block is 0
  words[I_BLOCK_WORD + 5] = block; // ee_start_lo
}
