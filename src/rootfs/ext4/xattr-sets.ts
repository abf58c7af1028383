import { createHash } from "node:crypto";
import type { Xattr } from "../../tar/pax.ts";
import { ByteArena } from "./byte-arena.ts";
import { RecordTable } from "./record-table.ts";
import { checkXattrs, namedForExt4 } from "./xattr.ts";

declare const brand: unique symbol;
/** Names a set of attributes in {@link XattrSets}. */
export type XattrSetId = number & { readonly [brand]: "XattrSetId" };

const ADDRESS = 0;
const LENGTH = 1;
const SET_WORDS = 2;

/** So many different sets are looked up; those beyond, a file's own signature say, are not shared. */
export const SHARED_SETS = 65_536;
const SHORT_BYTES = 128;

/**
 * Sets of extended attributes: what many files have alike, a label or an ACL, is kept once.
 */
export class XattrSets {
  readonly #table: RecordTable = new RecordTable(SET_WORDS);
  readonly #arena: ByteArena = new ByteArena();
  readonly #known: Map<string, XattrSetId> = new Map();

  #bytes = 0;

  /** @throws XattrError when ext4 cannot hold them. */
  add(all: readonly Xattr[]): XattrSetId {
    const xattrs = namedForExt4(all);
    const packed = packXattrs(xattrs);
    const key = keyOf(packed);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    checkXattrs(xattrs);
    const set = this.#table.add() as XattrSetId; // Here sets get their names.
    this.#table.set(set, ADDRESS, this.#arena.add(packed));
    this.#table.set(set, LENGTH, packed.length);
    this.#bytes += packed.length;
    if (this.#known.size < SHARED_SETS) this.#known.set(key, set);
    return set;
  }

  get count(): number {
    return this.#table.count;
  }

  /** What they take together. */
  get bytes(): number {
    return this.#bytes;
  }

  get(set: XattrSetId): Xattr[] {
    return unpack(this.#arena.bytes(this.#table.get(set, ADDRESS), this.#table.get(set, LENGTH)));
  }
}

/** What packed attributes are known by: themselves if they are short, which costs less than their digest. */
export function keyOf(packed: Buffer): string {
  return packed.length <= SHORT_BYTES
    ? packed.toString("latin1")
    : `sha256:${createHash("sha256").update(packed).digest("base64")}`;
}

/** The attributes as one piece of bytes: name length 16, value length 32, name, value, and so on. */
export function packXattrs(xattrs: readonly Xattr[]): Buffer {
  return Buffer.concat(
    xattrs.flatMap(({ name, value }) => {
      const head = Buffer.alloc(6 + name.length);
      head.writeUInt16LE(name.length, 0);
      head.writeUInt32LE(value.length, 2);
      head.write(name, 6, "latin1");
      return [head, value];
    }),
  );
}

function unpack(bytes: Buffer): Xattr[] {
  const xattrs: Xattr[] = [];
  for (let at = 0; at < bytes.length; ) {
    const value = at + 6 + bytes.readUInt16LE(at);
    const end = value + bytes.readUInt32LE(at + 2);
    xattrs.push({ name: bytes.toString("latin1", at + 6, value), value: bytes.subarray(value, end) });
    at = end;
  }
  return xattrs;
}
