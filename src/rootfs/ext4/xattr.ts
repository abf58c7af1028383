import { crc32c } from "../../core/crc32c.ts";
import type { Xattr } from "../../tar/pax.ts";
import { BLOCK_SIZE, INODE_SIZE, INODE_XATTR_OFFSET } from "./format.ts";

/*
 * Extended attributes, https://www.kernel.org/doc/html/latest/filesystems/ext4/attributes.html
 *
 *   in the inode   magic 4, entries, four zero bytes … values from the end backwards
 *   in a block     header 32 (magic, h_refcount, h_blocks, h_hash), then the same
 *   entry          0 e_name_len 8 | 1 e_name_index 8 | 2 e_value_offs 16 | 4 e_value_inum 32 | 8 e_value_size 32
 *                  12 e_hash 32 | 16 name, padded to 4
 *
 * A value's offset counts from the first entry in an inode, from the block's start in a block. A value for which
 * the block has no room is the content of an inode of its own (ea_inode), e_value_inum; e_hash then covers the
 * value's checksum in place of the value.
 */

const MAGIC = 0xea02_0000;
const ENTRY_BYTES = 16;
const BLOCK_HEADER_BYTES = 32;
/** Room for entries and values in the inode, after the magic. */
const INODE_ROOM: number = INODE_SIZE - INODE_XATTR_OFFSET - 4;

/** Longest prefix first: the ACL names are whole ones. */
const PREFIXES: ReadonlyArray<readonly [prefix: string, index: number]> = [
  ["system.posix_acl_access", 2],
  ["system.posix_acl_default", 3],
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
  ["system.", 7],
];

/** An attribute as ext4 holds it. */
interface Entry {
  readonly index: number;
  readonly name: Buffer;
  readonly value: Buffer;
  /** What it was made of. */
  readonly xattr: Xattr;
}

/** Where each attribute of a set goes. */
interface XattrPlan {
  readonly inside: readonly Entry[];
  readonly outside: readonly Entry[];
  /** Those of `outside` whose values are inodes of their own, in its order. */
  readonly large: readonly Entry[];
}

/** An attribute set that ext4 cannot hold, or a malformed ACL. */
export class XattrError extends Error {
  override readonly name = "XattrError";
}

/** Most inodes that may share one attribute block (EXT4_XATTR_REFCOUNT_MAX). */
export const MAX_BLOCK_REFERENCES = 1024;

/** Longest value that the kernel takes (XATTR_SIZE_MAX). */
export const MAX_VALUE_BYTES = 65_536;
/** Longest name, without what it begins with: e_name_len has one byte. */
const MAX_NAME_BYTES = 255;
/** What a reference to an inode takes, so a value that is no longer gains nothing by one. */
export const MIN_LARGE_BYTES = 64;

/**
 * Those of `xattrs` whose names ext4 has a namespace for. The others are left out, as they are when a container
 * runtime unpacks the layer on ext4.
 * @throws XattrError for a name too long.
 */
export function namedForExt4(xattrs: readonly Xattr[]): Xattr[] {
  return xattrs.filter(({ name }) => namespaceOf(name) !== undefined);
}

/**
 * Says whether ext4 can hold the attributes, but for those that {@link namedForExt4} leaves out.
 * @throws XattrError for a name or value too long, too many, or an ACL that is malformed.
 */
export function checkXattrs(xattrs: readonly Xattr[]): void {
  planXattrs(xattrs);
}

/** The values of `xattrs` that need inodes of their own. */
export function largeValues(xattrs: readonly Xattr[]): Buffer[] {
  return planXattrs(xattrs).large.map((entry) => entry.value);
}

/** Those of `xattrs` that do not fit the inode. */
export function attributesOutside(xattrs: readonly Xattr[]): Xattr[] {
  return planXattrs(xattrs).outside.map((entry) => entry.xattr);
}

/** What of `xattrs` is in the inode itself: its bytes from 160 on. */
export function encodeInInode(xattrs: readonly Xattr[]): Buffer | undefined {
  const { inside } = planXattrs(xattrs);
  if (inside.length === 0) return undefined;
  const bytes = Buffer.alloc(4 + INODE_ROOM);
  bytes.writeUInt32LE(MAGIC, 0);
  encodeEntries(inside, bytes.subarray(4), { start: 0, inodeOf: () => undefined, seed: 0 });
  return bytes;
}

/** Inodes that hold large values, and the seed of their checksums, see {@link checksumSeed}. */
export interface ValueInodes {
  /** In the order of {@link largeValues}. */
  readonly numbers: readonly number[];
  readonly seed: number;
}

/** The block of what of `xattrs` does not fit the inode. */
export function encodeInBlock(xattrs: readonly Xattr[], values: ValueInodes): Buffer | undefined {
  const { outside, large } = planXattrs(xattrs);
  if (outside.length === 0) return undefined;
  const inodes = new Map(large.map((entry, index) => [entry, values.numbers[index]]));
  const bytes = Buffer.alloc(BLOCK_SIZE);
  const hash = encodeEntries(outside, bytes, {
    start: BLOCK_HEADER_BYTES,
    inodeOf: (entry) => inodes.get(entry),
    seed: values.seed,
  });
  bytes.writeUInt32LE(MAGIC, 0); // h_magic
  bytes.writeUInt32LE(1, 4); // h_refcount
  bytes.writeUInt32LE(1, 8); // h_blocks
  bytes.writeUInt32LE(hash, 12); // h_hash
  return bytes;
}

/**
 * What an inode that holds a value has as its access time; the kernel compares it.
 * @param seed The {@link checksumSeed} of the filesystem.
 */
export function valueHash(value: Buffer, seed: number): number {
  return ~crc32c(value, ~seed) >>> 0;
}

/** s_csum_seed: the kernel's crc32c, which inverts nothing, of the filesystem's UUID. */
export function checksumSeed(uuid: Buffer): number {
  return ~crc32c(uuid) >>> 0;
}

function planXattrs(xattrs: readonly Xattr[]): XattrPlan {
  const entries = xattrs.flatMap((xattr) => toEntry(xattr) ?? []);
  entries.sort(compareEntries);
  const inside: Entry[] = [];
  const outside: Entry[] = [];
  let left = INODE_ROOM - 4;
  for (const entry of entries) {
    const size = entrySize(entry);
    if (size <= left) {
      inside.push(entry);
      left -= size;
    } else {
      outside.push(entry);
    }
  }
  return { inside, outside, large: chooseLarge(outside) };
}

/** The largest values, as many as must leave a block for the rest to fit. */
function chooseLarge(entries: readonly Entry[]): Entry[] {
  let needed = entries.reduce((sum, entry) => sum + entrySize(entry), BLOCK_HEADER_BYTES + 4);
  if (needed <= BLOCK_SIZE) return [];
  const chosen = new Set<Entry>();
  for (const entry of entries.toSorted((a, b) => b.value.length - a.value.length)) {
    if (needed <= BLOCK_SIZE || entry.value.length < MIN_LARGE_BYTES) break;
    chosen.add(entry);
    needed -= pad4(entry.value.length);
  }
  if (needed > BLOCK_SIZE) {
    throw new XattrError(
      `extended attributes whose names and small values take ${needed} bytes, at most ${BLOCK_SIZE} fit`,
    );
  }
  return entries.filter((entry) => chosen.has(entry));
}

/** The number of inodes that share a block is kept in it, at byte 4. */
export function setBlockReferences(block: Buffer, count: number): void {
  block.writeUInt32LE(count, 4);
}

/** What a name begins with, and the number that stands for that. */
function namespaceOf(name: string): { readonly prefix: string; readonly index: number } | undefined {
  for (const [prefix, index] of PREFIXES) {
    const length = name.length - prefix.length;
    if (isAcl(index) ? name !== prefix : length === 0 || !name.startsWith(prefix)) continue;
    if (length > MAX_NAME_BYTES) {
      throw new XattrError(`attribute name of ${length} bytes, at most ${MAX_NAME_BYTES} fit`);
    }
    return { prefix, index };
  }
  return undefined;
}

function isAcl(index: number): boolean {
  return index === 2 || index === 3;
}

function toEntry(xattr: Xattr): Entry | undefined {
  const { name, value } = xattr;
  const namespace = namespaceOf(name);
  if (namespace === undefined) return undefined;
  if (value.length > MAX_VALUE_BYTES)
    throw new XattrError(`attribute ${name} of ${value.length} bytes, at most ${MAX_VALUE_BYTES} fit`);
  const { prefix, index } = namespace;
  const suffix = Buffer.from(name.slice(prefix.length), "latin1");
  return { index, name: suffix, value: isAcl(index) ? encodeAcl(value) : value, xattr };
}

/** The order that the kernel's search in a block relies on: index, then length of the name, then the name. */
function compareEntries(a: Entry, b: Entry): number {
  return a.index - b.index || a.name.length - b.name.length || Buffer.compare(a.name, b.name);
}

function entrySize(entry: Entry): number {
  return ENTRY_BYTES + pad4(entry.name.length) + pad4(entry.value.length);
}

/** Writes entries from `start` on and their values from the end backwards; returns the hash of the block. */
function encodeEntries(
  entries: readonly Entry[],
  bytes: Buffer,
  options: { start: number; inodeOf: (entry: Entry) => number | undefined; seed: number },
): number {
  let at = options.start;
  let valueAt = bytes.length;
  let blockHash = 0;
  for (const entry of entries) {
    const { index, name, value } = entry;
    const inode = options.inodeOf(entry);
    let hashed: Buffer;
    if (inode === undefined) {
      valueAt -= pad4(value.length);
      value.copy(bytes, valueAt);
      hashed = bytes.subarray(valueAt, valueAt + pad4(value.length));
      bytes.writeUInt16LE(value.length === 0 ? 0 : valueAt, at + 2);
    } else {
      hashed = Buffer.alloc(4);
      hashed.writeUInt32LE(valueHash(value, options.seed));
      bytes.writeUInt32LE(inode, at + 4);
    }
    const hash = entryHash(name, hashed);
    bytes[at] = name.length;
    bytes[at + 1] = index;
    bytes.writeUInt32LE(value.length, at + 8);
    bytes.writeUInt32LE(hash, at + 12);
    name.copy(bytes, at + ENTRY_BYTES);
    at += ENTRY_BYTES + pad4(name.length);
    blockHash = ((blockHash << 16) ^ (blockHash >>> 16) ^ hash) >>> 0;
  }
  return blockHash;
}

/** e_hash: ext4_xattr_hash_entry() of the kernel's fs/ext4/xattr.c, the value padded to words. */
function entryHash(name: Buffer, value: Buffer): number {
  let hash = 0;
  for (const byte of name) hash = ((hash << 5) ^ (hash >>> 27) ^ byte) >>> 0;
  for (let i = 0; i < value.length; i += 4) {
    hash = ((hash << 16) ^ (hash >>> 16) ^ value.readUInt32LE(i)) >>> 0;
  }
  return hash;
}

function pad4(length: number): number {
  return (length + 3) & ~3;
}

const ACL_USER = 0x02;
const ACL_GROUP = 0x08;
const ACL_SHORT_TAGS: ReadonlySet<number> = new Set([0x01, 0x04, 0x10, 0x20]);

/**
 * ext4's own form of an ACL: version 1, and an id only for named users and groups, where the attribute that
 * user space sees (version 2) has one in every entry. https://www.kernel.org/doc/html/latest/filesystems/ext4/attributes.html#posix-acls
 * @throws XattrError for anything that is not an ACL.
 */
export function encodeAcl(value: Buffer): Buffer {
  if (value.length < 4 || (value.length - 4) % 8 !== 0 || value.readUInt32LE(0) !== 2) {
    throw new XattrError("malformed POSIX ACL");
  }
  const parts: Buffer[] = [Buffer.from([1, 0, 0, 0])];
  for (let at = 4; at < value.length; at += 8) {
    const tag = value.readUInt16LE(at);
    if (tag === ACL_USER || tag === ACL_GROUP) parts.push(value.subarray(at, at + 8));
    else if (ACL_SHORT_TAGS.has(tag)) parts.push(value.subarray(at, at + 4));
    else throw new XattrError(`POSIX ACL with the unknown tag ${tag}`);
  }
  return Buffer.concat(parts);
}
