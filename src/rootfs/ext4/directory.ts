import { directoryHash } from "./directory-hash.ts";
import {
  BLOCK_SIZE,
  HASH_HALF_MD4,
  MODE_BLOCK_DEVICE,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_FIFO,
  MODE_FILE,
  MODE_SOCKET,
  MODE_SYMLINK,
  MODE_TYPE,
} from "./format.ts";
import type { TreeNode } from "./tree.ts";

/*
 * Directories, https://www.kernel.org/doc/html/latest/filesystems/ext4/directory.html
 *
 *   entry  0 inode 32 | 4 rec_len 16 | 6 name_len 8 | 7 file_type 8 | 8 name; padded to 4, the last one of a
 *          block reaches to its end
 *
 * A large directory is indexed: block 0 holds "." and "..", whose rec_len hides the index from those who do not
 * know it, then blocks of index nodes if one level is not enough, then the leaves, ordered by hash.
 *
 *   root   0 "." 12 | 12 ".." | 24 reserved 32, hash_version 8, info_length 8, levels 8, flags 8 | 32 entries
 *   node   0 an empty entry over the whole block | 8 entries
 *   entry  0 hash 32 | 4 block 32; in the first, the hash's place holds limit 16 and count 16
 */

/** A directory of more blocks than this is indexed. */
const LINEAR_BLOCKS = 2;
const DOTS_BYTES = 24;
const ROOT_INDEX_OFFSET = 32;
const NODE_INDEX_OFFSET = 8;
export const ROOT_INDEX_ENTRIES: number = (BLOCK_SIZE - ROOT_INDEX_OFFSET) / 8;
export const NODE_INDEX_ENTRIES: number = (BLOCK_SIZE - NODE_INDEX_OFFSET) / 8;

/** A leaf of an indexed directory: its names, and the hash from which on it is responsible. */
interface DirectoryLeaf {
  /** With the lowest bit set when names of the same hash stand in the leaf before. */
  readonly hash: number;
  readonly names: readonly string[];
}

/** How a directory's entries are laid out. */
export interface DirectoryPlan {
  readonly blocks: number;
  /** Undefined for a linear directory. */
  readonly leaves: readonly DirectoryLeaf[] | undefined;
}

/** Plans the directory of `children`; `seed` is s_hash_seed. */
export function planDirectory(children: TreeNode["children"], seed: Uint32Array): DirectoryPlan {
  let blocks = 1;
  let used = DOTS_BYTES;
  for (const name of children?.keys() ?? []) {
    const size = entryBytes(name.length);
    if (used + size > BLOCK_SIZE) {
      blocks++;
      used = 0;
    }
    used += size;
  }
  if (blocks <= LINEAR_BLOCKS) return { blocks, leaves: undefined };
  const leaves = planLeaves(children?.keys() ?? [], seed);
  const nodes = leaves.length <= ROOT_INDEX_ENTRIES ? 0 : Math.ceil(leaves.length / NODE_INDEX_ENTRIES);
  return { blocks: 1 + nodes + leaves.length, leaves };
}

function planLeaves(names: Iterable<string>, seed: Uint32Array): DirectoryLeaf[] {
  const hashed = Array.from(names, (name) => ({ name, hash: directoryHash(name, seed) }));
  hashed.sort((a, b) => a.hash - b.hash || (a.name < b.name ? -1 : 1));
  const leaves: DirectoryLeaf[] = [];
  let leafNames: string[] = [];
  let used = BLOCK_SIZE;
  let previous = -1;
  for (const { name, hash } of hashed) {
    const size = entryBytes(name.length);
    if (used + size > BLOCK_SIZE) {
      leafNames = [];
      // The first leaf answers for every hash from 0 on.
      leaves.push({ hash: leaves.length === 0 ? 0 : hash === previous ? hash + 1 : hash, names: leafNames });
      used = 0;
    }
    leafNames.push(name);
    used += size;
    previous = hash;
  }
  return leaves;
}

/** Encodes a directory block by block; `emit` must copy what it is given. */
export function encodeDirectory(
  directory: TreeNode,
  plan: DirectoryPlan,
  options: { parent: number; emit: (block: Buffer) => void },
): void {
  const writer = new EntryWriter(options.emit);
  const children = directory.children ?? new Map<string, TreeNode>();
  if (plan.leaves === undefined) {
    writer.add(".", directory.inode.number, 2);
    writer.add("..", options.parent, 2);
    for (const [name, { inode }] of children) writer.add(name, inode.number, fileType(inode.mode));
    writer.finishBlock();
    return;
  }
  for (const block of encodeIndex(plan.leaves, directory.inode.number, options.parent)) options.emit(block);
  for (const leaf of plan.leaves) {
    for (const name of leaf.names) {
      const child = children.get(name);
      if (child === undefined) throw new Error("a directory's plan names what it does not hold");
      writer.add(name, child.inode.number, fileType(child.inode.mode));
    }
    writer.finishBlock();
  }
}

/** Bytes of an entry for a name of `length` bytes. */
export function entryBytes(length: number): number {
  return (8 + length + 3) & ~3;
}

class EntryWriter {
  readonly #block: Buffer = Buffer.alloc(BLOCK_SIZE);
  readonly #emit: (block: Buffer) => void;
  #used = 0;
  /** Where the last entry begins: its rec_len is what reaches to the end of the block. */
  #last = 0;

  constructor(emit: (block: Buffer) => void) {
    this.#emit = emit;
  }

  add(name: string, inode: number, type: number): void {
    const size = entryBytes(name.length);
    if (this.#used + size > BLOCK_SIZE) this.finishBlock();
    const at = this.#used;
    this.#block.writeUInt32LE(inode, at);
    this.#block.writeUInt16LE(size, at + 4);
    this.#block[at + 6] = name.length;
    this.#block[at + 7] = type;
    this.#block.write(name, at + 8, "latin1");
    this.#last = at;
    this.#used = at + size;
  }

  finishBlock(): void {
    this.#block.writeUInt16LE(BLOCK_SIZE - this.#last, this.#last + 4);
    this.#emit(this.#block);
    this.#block.fill(0);
    this.#used = 0;
    this.#last = 0;
  }
}

function encodeIndex(leaves: readonly DirectoryLeaf[], self: number, parent: number): Buffer[] {
  const root = Buffer.alloc(BLOCK_SIZE);
  root.writeUInt32LE(self, 0);
  root.writeUInt16LE(12, 4);
  root[6] = 1;
  root[7] = 2;
  root.write(".", 8, "latin1");
  root.writeUInt32LE(parent, 12);
  root.writeUInt16LE(BLOCK_SIZE - 12, 16);
  root[18] = 2;
  root[19] = 2;
  root.write("..", 20, "latin1");
  root[28] = HASH_HALF_MD4;
  root[29] = 8; // info_length
  const entries = leaves.map(({ hash }, index) => ({ hash, block: index + 1 }));
  if (entries.length <= ROOT_INDEX_ENTRIES) {
    writeIndex(root, ROOT_INDEX_OFFSET, entries);
    return [root];
  }
  const nodeCount = Math.ceil(entries.length / NODE_INDEX_ENTRIES);
  root[30] = 1; // indirect_levels
  const nodes: Buffer[] = [];
  const top: IndexEntry[] = [];
  for (let i = 0; i < entries.length; i += NODE_INDEX_ENTRIES) {
    const part = entries
      .slice(i, i + NODE_INDEX_ENTRIES)
      .map(({ hash, block }) => ({ hash, block: block + nodeCount }));
    const node = Buffer.alloc(BLOCK_SIZE);
    node.writeUInt16LE(BLOCK_SIZE, 4);
    writeIndex(node, NODE_INDEX_OFFSET, part);
    nodes.push(node);
    top.push({ hash: part[0]?.hash ?? 0, block: nodes.length });
  }
  writeIndex(root, ROOT_INDEX_OFFSET, top);
  return [root, ...nodes];
}

interface IndexEntry {
  readonly hash: number;
  readonly block: number;
}

function writeIndex(bytes: Buffer, offset: number, entries: readonly IndexEntry[]): void {
  let at = offset;
  for (const { hash, block } of entries) {
    bytes.writeUInt32LE(hash, at);
    bytes.writeUInt32LE(block, at + 4);
    at += 8;
  }
  bytes.writeUInt16LE((BLOCK_SIZE - offset) / 8, offset); // limit
  bytes.writeUInt16LE(entries.length, offset + 2); // count
}

function fileType(mode: number): number {
  switch (mode & MODE_TYPE) {
    case MODE_FILE:
      return 1;
    case MODE_DIRECTORY:
      return 2;
    case MODE_CHARACTER_DEVICE:
      return 3;
    case MODE_BLOCK_DEVICE:
      return 4;
    case MODE_FIFO:
      return 5;
    case MODE_SOCKET:
      return 6;
    case MODE_SYMLINK:
      return 7;
    default:
      return 0;
  }
}
