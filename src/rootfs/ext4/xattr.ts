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
 * A value's offset counts from the first entry in an inode, from the block's start in a block.
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
}

/** What a set of attributes takes: the inode's last bytes (from byte 160 on), and a block when they do not fit. */
export interface EncodedXattrs {
  readonly inode: Buffer | undefined;
  readonly block: Buffer | undefined;
}

/** An attribute set that ext4 cannot hold, or a malformed ACL. */
export class XattrError extends Error {
  override readonly name = "XattrError";
}

/** Most inodes that may share one attribute block (EXT4_XATTR_REFCOUNT_MAX). */
export const MAX_BLOCK_REFERENCES = 1024;

/**
 * Encodes attributes, in the inode as far as they fit, the rest in a block. Names outside the namespaces that
 * ext4 has are left out, as they are when a container runtime unpacks the layer on ext4.
 * @throws XattrError when they need more than one block, or an ACL is malformed.
 */
export function encodeXattrs(xattrs: readonly Xattr[]): EncodedXattrs {
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
  return {
    inode: inside.length === 0 ? undefined : encodeInInode(inside),
    block: outside.length === 0 ? undefined : encodeInBlock(outside),
  };
}

/** The number of inodes that share a block is kept in it, at byte 4. */
export function setBlockReferences(block: Buffer, count: number): void {
  block.writeUInt32LE(count, 4);
}

function toEntry({ name, value }: Xattr): Entry | undefined {
  for (const [prefix, index] of PREFIXES) {
    const acl = index === 2 || index === 3;
    if (acl ? name !== prefix : !name.startsWith(prefix) || name.length === prefix.length) continue;
    const suffix = Buffer.from(name.slice(prefix.length), "latin1");
    if (suffix.length > 255)
      throw new XattrError(`attribute name of ${suffix.length} bytes, at most 255 fit`);
    return { index, name: suffix, value: acl ? encodeAcl(value) : value };
  }
  return undefined;
}

/** The order that the kernel's search in a block relies on: index, then length of the name, then the name. */
function compareEntries(a: Entry, b: Entry): number {
  return a.index - b.index || a.name.length - b.name.length || Buffer.compare(a.name, b.name);
}

function entrySize(entry: Entry): number {
  return ENTRY_BYTES + pad4(entry.name.length) + pad4(entry.value.length);
}

function encodeInInode(entries: readonly Entry[]): Buffer {
  const bytes = Buffer.alloc(4 + INODE_ROOM);
  bytes.writeUInt32LE(MAGIC, 0);
  encodeEntries(entries, bytes.subarray(4), 0);
  return bytes;
}

function encodeInBlock(entries: readonly Entry[]): Buffer {
  const needed = entries.reduce((sum, entry) => sum + entrySize(entry), BLOCK_HEADER_BYTES + 4);
  if (needed > BLOCK_SIZE) {
    throw new XattrError(`extended attributes take ${needed} bytes, ext4 has room for ${BLOCK_SIZE}`);
  }
  const bytes = Buffer.alloc(BLOCK_SIZE);
  bytes.writeUInt32LE(MAGIC, 0); // h_magic
  bytes.writeUInt32LE(1, 4); // h_refcount
  bytes.writeUInt32LE(1, 8); // h_blocks
  bytes.writeUInt32LE(encodeEntries(entries, bytes, BLOCK_HEADER_BYTES), 12); // h_hash
  return bytes;
}

/** Writes entries from `start` on and their values from the end backwards; returns the hash of the block. */
function encodeEntries(entries: readonly Entry[], bytes: Buffer, start: number): number {
  let at = start;
  let valueAt = bytes.length;
  let blockHash = 0;
  for (const { index, name, value } of entries) {
    valueAt -= pad4(value.length);
    value.copy(bytes, valueAt);
    const hash = entryHash(name, bytes.subarray(valueAt, valueAt + pad4(value.length)));
    bytes[at] = name.length;
    bytes[at + 1] = index;
    bytes.writeUInt16LE(value.length === 0 ? 0 : valueAt, at + 2);
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
