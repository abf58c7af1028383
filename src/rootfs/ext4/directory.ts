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
import type { DirectoryId, FileTree, PlaceId } from "./tree.ts";

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

/**
 * The leaves of an indexed directory: which places each holds, and the hash from which on it is responsible, its
 * lowest bit set when names of the same hash stand in the leaf before.
 */
export interface DirectoryIndex {
  /** The directory's places in the order of their hashes. */
  readonly order: Uint32Array;
  /** Where in `order` each leaf begins. */
  readonly starts: readonly number[];
  readonly hashes: readonly number[];
}

/** How a directory's entries are laid out. */
export interface DirectoryPlan {
  readonly blocks: number;
  /** Undefined for a linear directory. */
  readonly index: DirectoryIndex | undefined;
}

/** Plans `directory`; `seed` is s_hash_seed. */
export function planDirectory(tree: FileTree, directory: DirectoryId, seed: Uint32Array): DirectoryPlan {
  let blocks = 1;
  let used = DOTS_BYTES;
  let count = 0;
  for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
    const size = entryBytes(tree.nameLength(place));
    if (used + size > BLOCK_SIZE) {
      blocks++;
      used = 0;
    }
    used += size;
    count++;
  }
  if (blocks <= LINEAR_BLOCKS) return { blocks, index: undefined };
  const index = planIndex(tree, { directory, count, seed });
  const nodes = indexNodes(index.starts.length);
  return nodes === undefined
    ? { blocks, index: undefined }
    : { blocks: 1 + nodes + index.starts.length, index };
}

/**
 * Blocks of index nodes below the root that an index of `leaves` leaves has; undefined when two levels, the most
 * without the feature large_dir, are not enough: the directory is then searched from its beginning.
 */
export function indexNodes(leaves: number): number | undefined {
  if (leaves <= ROOT_INDEX_ENTRIES) return 0;
  const nodes = Math.ceil(leaves / NODE_INDEX_ENTRIES);
  return nodes <= ROOT_INDEX_ENTRIES ? nodes : undefined;
}

function planIndex(
  tree: FileTree,
  from: { readonly directory: DirectoryId; readonly count: number; readonly seed: Uint32Array },
): DirectoryIndex {
  const { order, hashes } = sortByHash(tree, from);
  const starts: number[] = [];
  const leafHashes: number[] = [];
  let used = BLOCK_SIZE;
  let previous = -1;
  order.forEach((place, at) => {
    const size = entryBytes(tree.nameLength(place as PlaceId)); // As they came from the tree.
    const hash = hashes[at] ?? 0;
    if (used + size > BLOCK_SIZE) {
      starts.push(at);
      // The first leaf answers for every hash from 0 on.
      leafHashes.push(at === 0 ? 0 : hash === previous ? hash + 1 : hash);
      used = 0;
    }
    used += size;
    previous = hash;
  });
  return { order, starts, hashes: leafHashes };
}

/** The places of a directory and their hashes, rising; names of the same hash in the order of the tree. */
function sortByHash(
  tree: FileTree,
  { directory, count, seed }: { directory: DirectoryId; count: number; seed: Uint32Array },
): { order: Uint32Array; hashes: Uint32Array } {
  // As 64-bit numbers they are sorted in place, without an object for each: the hash above the position.
  const keys = new BigUint64Array(count);
  const halves = new Uint32Array(keys.buffer);
  const places = new Uint32Array(count);
  let at = 0;
  for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
    places[at] = place;
    halves[2 * at] = at;
    halves[2 * at + 1] = directoryHash(tree.name(place), seed);
    at++;
  }
  keys.sort();
  const order = new Uint32Array(count);
  const hashes = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    order[i] = places[halves[2 * i] ?? 0] ?? 0;
    hashes[i] = halves[2 * i + 1] ?? 0;
  }
  return { order, hashes };
}

/** Encodes a directory block by block; `emit` must copy what it is given. */
export function encodeDirectory(
  tree: FileTree,
  directory: DirectoryId,
  options: { readonly index: DirectoryIndex | undefined; readonly emit: (block: Buffer) => void },
): void {
  const { index, emit } = options;
  const writer = new EntryWriter(tree, emit);
  const place = tree.place(directory);
  const self = tree.inodes.number(tree.inode(place));
  // The root is its own parent.
  const above = tree.parent(place) ?? directory;
  const parent = tree.inodes.number(tree.inode(tree.place(above)));
  if (index === undefined) {
    writer.addDots(self, parent);
    for (let each = tree.first(directory); each !== undefined; each = tree.next(each)) writer.add(each);
    writer.finishBlock();
    return;
  }
  for (const block of encodeIndex(index.hashes, self, parent)) emit(block);
  index.starts.forEach((start, leaf) => {
    const end = index.starts[leaf + 1] ?? index.order.length;
    for (let at = start; at < end; at++) writer.add(index.order[at] as PlaceId); // As planIndex() has put them.
    writer.finishBlock();
  });
}

/** Bytes of an entry for a name of `length` bytes. */
export function entryBytes(length: number): number {
  return (8 + length + 3) & ~3;
}

class EntryWriter {
  readonly #tree: FileTree;
  readonly #block: Buffer = Buffer.alloc(BLOCK_SIZE);
  readonly #emit: (block: Buffer) => void;
  #used = 0;
  /** Where the last entry begins: its rec_len is what reaches to the end of the block. */
  #last = 0;

  constructor(tree: FileTree, emit: (block: Buffer) => void) {
    this.#tree = tree;
    this.#emit = emit;
  }

  /** To be called first. */
  addDots(self: number, parent: number): void {
    writeDots(this.#block, { self, parent, parentBytes: 12 });
    this.#last = 12;
    this.#used = DOTS_BYTES;
  }

  add(place: PlaceId): void {
    const { inodes } = this.#tree;
    const inode = this.#tree.inode(place);
    const length = this.#tree.nameLength(place);
    const size = entryBytes(length);
    if (this.#used + size > BLOCK_SIZE) this.finishBlock();
    const at = this.#used;
    writeHead(this.#block, at, {
      inode: inodes.number(inode),
      size,
      length,
      type: fileType(inodes.mode(inode)),
    });
    this.#tree.copyName(place, this.#block, at + 8);
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

function writeHead(
  block: Buffer,
  at: number,
  entry: { inode: number; size: number; length: number; type: number },
): void {
  block.writeUInt32LE(entry.inode, at);
  block.writeUInt16LE(entry.size, at + 4);
  block[at + 6] = entry.length;
  block[at + 7] = entry.type;
}

/** The first two entries: "." of 12 bytes, and ".." of `parentBytes`. */
function writeDots(block: Buffer, dots: { self: number; parent: number; parentBytes: number }): void {
  writeHead(block, 0, { inode: dots.self, size: 12, length: 1, type: 2 });
  block.write(".", 8, "latin1");
  writeHead(block, 12, { inode: dots.parent, size: dots.parentBytes, length: 2, type: 2 });
  block.write("..", 20, "latin1");
}

function encodeIndex(leafHashes: readonly number[], self: number, parent: number): Buffer[] {
  const root = Buffer.alloc(BLOCK_SIZE);
  writeDots(root, { self, parent, parentBytes: BLOCK_SIZE - 12 });
  root[28] = HASH_HALF_MD4;
  root[29] = 8; // info_length
  const entries = leafHashes.map((hash, index) => ({ hash, block: index + 1 }));
  if (entries.length <= ROOT_INDEX_ENTRIES) {
    writeIndex(root, ROOT_INDEX_OFFSET, entries);
    return [root];
  }
  const nodeCount = indexNodes(entries.length) ?? 0;
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
