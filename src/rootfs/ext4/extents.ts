import { BLOCK_SIZE } from "./format.ts";
import type { Run } from "./inodes.ts";

/*
 * Extent trees, https://www.kernel.org/doc/html/latest/filesystems/ext4/ifork.html#extent-tree
 *
 *   header  0 eh_magic 0xf30a | 2 eh_entries | 4 eh_max | 6 eh_depth | 8 eh_generation
 *   leaf    0 ee_block 32 | 4 ee_len 16 | 6 ee_start_hi 16 | 8 ee_start_lo 32
 *   index   0 ei_block 32 | 4 ei_leaf_lo 32 | 8 ei_leaf_hi 16 | 10 unused
 *
 * The root has the inode's 60 bytes: 4 entries; a block has 340.
 */

/** ee_len counts to 32768; more would mark the extent as unwritten. */
export const MAX_EXTENT_BLOCKS = 32_768;
export const ROOT_ENTRIES = 4;
export const BLOCK_ENTRIES: number = Math.floor((BLOCK_SIZE - 12) / 12);
/** Bytes of i_block. */
const ROOT_BYTES = 60;

/** An extent tree: the inode's part and the blocks it needs, each holding one node. */
export interface ExtentTree {
  readonly root: Buffer;
  readonly blocks: ReadonlyArray<{ readonly block: number; readonly bytes: Buffer }>;
}

/** Cuts runs into extents, none longer than an extent can be. */
export function extentsOf(runs: readonly Run[]): Run[] {
  const extents: Run[] = [];
  for (const run of runs) {
    for (let done = 0; done < run.length; done += MAX_EXTENT_BLOCKS) {
      extents.push({
        logical: run.logical + done,
        physical: run.physical + done,
        length: Math.min(MAX_EXTENT_BLOCKS, run.length - done),
      });
    }
  }
  return extents;
}

/** How many blocks outside the inode the tree of `count` extents takes. */
export function extentBlockCount(count: number): number {
  let blocks = 0;
  for (let nodes = count; nodes > ROOT_ENTRIES; ) {
    nodes = Math.ceil(nodes / BLOCK_ENTRIES);
    blocks += nodes;
  }
  return blocks;
}

/** Builds the tree of `extents`; the nodes below the root stand in the blocks from `firstBlock` on. */
export function buildExtentTree(extents: readonly Run[], firstBlock: number): ExtentTree {
  const blocks: Array<{ block: number; bytes: Buffer }> = [];
  let depth = 0;
  let entries = extents;
  while (entries.length > ROOT_ENTRIES) {
    const parents: Run[] = [];
    for (let i = 0; i < entries.length; i += BLOCK_ENTRIES) {
      const part = entries.slice(i, i + BLOCK_ENTRIES);
      const block = firstBlock + blocks.length;
      blocks.push({ block, bytes: encodeNode(part, depth, BLOCK_SIZE) });
      parents.push({ logical: part[0]?.logical ?? 0, physical: block, length: 0 });
    }
    entries = parents;
    depth++;
  }
  return { root: encodeNode(entries, depth, ROOT_BYTES), blocks };
}

function encodeNode(entries: readonly Run[], depth: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUInt16LE(0xf30a, 0);
  bytes.writeUInt16LE(entries.length, 2);
  bytes.writeUInt16LE(Math.floor((size - 12) / 12), 4);
  bytes.writeUInt16LE(depth, 6);
  let at = 12;
  for (const entry of entries) {
    bytes.writeUInt32LE(entry.logical, at);
    if (depth === 0) {
      bytes.writeUInt16LE(entry.length, at + 4);
      bytes.writeUInt32LE(entry.physical, at + 8);
    } else {
      bytes.writeUInt32LE(entry.physical, at + 4);
    }
    at += 12;
  }
  return bytes;
}
