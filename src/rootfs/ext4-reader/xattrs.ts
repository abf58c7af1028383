import type { Xattr } from "../../tar/pax.ts";
import { type DiskInode, FLAG_EA_INODE, FLAG_INLINE_DATA, readInode } from "./inode.ts";
import { readMapped } from "./mapped.ts";
import type { Volume } from "./volume.ts";

/* Extended attributes; src/rootfs/ext4/xattr.ts has the layout. */

const MAGIC = 0xea02_0000;
const ENTRY_BYTES = 16;
const BLOCK_HEADER_BYTES = 32;
/** XATTR_SIZE_MAX, xattr(7). */
const MAX_VALUE_BYTES = 65_536;

/** e_name_index; what the names of 2, 3 and 8 lack is empty. */
const PREFIXES: Readonly<Record<number, string>> = {
  0: "",
  1: "user.",
  2: "system.posix_acl_access",
  3: "system.posix_acl_default",
  4: "trusted.",
  6: "security.",
  7: "system.",
  8: "system.richacl",
  9: "encryption.",
};
const INDEX_SYSTEM = 7;
const INDEX_ACL_ACCESS = 2;
const INDEX_ACL_DEFAULT = 3;
/** The name under which data stands that did not fit into i_block. */
const INLINE_DATA = "data";

interface RawXattr {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  /** The inode that holds the value, or 0. */
  readonly valueInode: number;
  readonly value: () => Buffer;
}

/**
 * An inode's attributes as programs see them, by name.
 * @param onBytes Told of each attribute's size before its value is read; what it throws ends the reading.
 * @throws FirectlError DISK_INVALID naming the inode.
 */
export function xattrsOf(
  volume: Volume,
  inode: DiskInode,
  onBytes: (count: number) => void = () => {},
): Xattr[] {
  const found = new Map<string, Buffer>();
  for (const { index, name, size, value } of rawXattrs(volume, inode)) {
    onBytes(ENTRY_BYTES + name.length + size);
    if (index === INDEX_SYSTEM && name === INLINE_DATA) continue;
    const prefix = PREFIXES[index];
    if (prefix === undefined) {
      throw volume.invalid(`inode ${inode.number}: an attribute of the unknown kind ${index}`);
    }
    const isAcl = index === INDEX_ACL_ACCESS || index === INDEX_ACL_DEFAULT;
    const full = `${prefix}${name}`;
    // What stands in the inode counts, should the block have it too.
    if (!found.has(full)) found.set(full, isAcl ? decodeAcl(volume, inode, value()) : value());
  }
  return Array.from(found, ([name, value]) => ({ name, value })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The part of inline data that did not fit into i_block. */
export function inlineTail(volume: Volume, inode: DiskInode): Buffer {
  const entry = inodeXattrs(volume, inode).find(
    ({ index, name }) => index === INDEX_SYSTEM && name === INLINE_DATA,
  );
  if (entry === undefined) return Buffer.alloc(0);
  if (entry.valueInode !== 0) {
    throw volume.invalid(`inode ${inode.number}: its data would be in inode ${entry.valueInode}`);
  }
  return entry.value();
}

function rawXattrs(volume: Volume, inode: DiskInode): RawXattr[] {
  const inside = inodeXattrs(volume, inode);
  if (inode.xattrBlock === 0) return inside;
  if (!volume.hasBlocks(inode.xattrBlock, 1)) {
    throw volume.invalid(`inode ${inode.number}: its attributes would be in block ${inode.xattrBlock}`);
  }
  const block = volume.block(inode.xattrBlock);
  if (block.readUInt32LE(0) !== MAGIC || block.readUInt32LE(8) !== 1) {
    throw volume.invalid(`inode ${inode.number}: block ${inode.xattrBlock} holds no attributes`);
  }
  return [...inside, ...entriesOf(volume, inode, block, BLOCK_HEADER_BYTES, 0)];
}

function inodeXattrs(volume: Volume, inode: DiskInode): RawXattr[] {
  if (inode.tail.length < 8 || inode.tail.readUInt32LE(0) !== MAGIC) return [];
  return entriesOf(volume, inode, inode.tail, 4, 4);
}

/** The entries from `start` on; their values' offsets count from `base`. */
function entriesOf(volume: Volume, inode: DiskInode, bytes: Buffer, start: number, base: number): RawXattr[] {
  const wrong = (problem: string) => volume.invalid(`inode ${inode.number}: ${problem}`);
  const entries: RawXattr[] = [];
  for (let at = start; ; ) {
    // Four zero bytes end the entries, unless the room does.
    if (at + 4 > bytes.length || bytes.readUInt32LE(at) === 0) return entries;
    const nameLength = bytes[at] ?? 0;
    const end = at + ENTRY_BYTES + nameLength;
    if (end > bytes.length) throw wrong("an attribute's name reaches beyond its room");
    const index = bytes[at + 1] ?? 0;
    const name = bytes.toString("latin1", at + ENTRY_BYTES, end);
    if (name.includes("\0")) throw wrong("an attribute's name has a NUL in it");
    const offset = base + bytes.readUInt16LE(at + 2);
    const valueInode = bytes.readUInt32LE(at + 4);
    const size = bytes.readUInt32LE(at + 8);
    if (size > MAX_VALUE_BYTES) throw wrong(`an attribute of ${size} bytes`);
    if (valueInode === 0 && size > 0 && offset + size > bytes.length) {
      throw wrong("an attribute's value reaches beyond its room");
    }
    entries.push({
      index,
      name,
      size,
      valueInode,
      value: () =>
        valueInode === 0
          ? Buffer.from(bytes.subarray(offset, offset + size))
          : valueFromInode(volume, inode, { number: valueInode, size }),
    });
    at = (end + 3) & ~3;
  }
}

/** A large value stands in an inode of its own, which says so. */
function valueFromInode(
  volume: Volume,
  owner: DiskInode,
  value: { readonly number: number; readonly size: number },
): Buffer {
  const inode = readInode(volume, value.number);
  // Its own attributes are no place for a value: that could lead back here.
  if (
    (inode.flags & FLAG_EA_INODE) === 0 ||
    inode.size !== value.size ||
    (inode.flags & FLAG_INLINE_DATA) !== 0
  ) {
    throw volume.invalid(`inode ${owner.number}: inode ${value.number} does not hold an attribute of it`);
  }
  return readMapped(volume, inode, MAX_VALUE_BYTES);
}

const ACL_USER = 0x02;
const ACL_GROUP = 0x08;
const ACL_NO_ID = 0xffff_ffff;

/** ext4's form of an ACL (version 1), made into the attribute that programs see (version 2). */
function decodeAcl(volume: Volume, inode: DiskInode, value: Buffer): Buffer {
  const wrong = () => volume.invalid(`inode ${inode.number}: its ACL is malformed`);
  if (value.length < 4 || value.readUInt32LE(0) !== 1) throw wrong();
  const parts: Buffer[] = [Buffer.from([2, 0, 0, 0])];
  for (let at = 4; at < value.length; ) {
    if (at + 4 > value.length) throw wrong();
    const tag = value.readUInt16LE(at);
    const isNamed = tag === ACL_USER || tag === ACL_GROUP;
    if (isNamed && at + 8 > value.length) throw wrong();
    const entry = Buffer.alloc(8);
    value.copy(entry, 0, at, at + 4);
    entry.writeUInt32LE(isNamed ? value.readUInt32LE(at + 4) : ACL_NO_ID, 4);
    parts.push(entry);
    at += isNamed ? 8 : 4;
  }
  return Buffer.concat(parts);
}
