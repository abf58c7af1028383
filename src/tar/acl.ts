import { TarError } from "./header.ts";

/*
 * POSIX ACLs as text, which GNU tar, star and libarchive put into SCHILY.acl.access and SCHILY.acl.default:
 *
 *   user::rw-,user:1000:r--,group::r--,mask::r--,other::---
 *
 * separated by commas or newlines. star and libarchive add a numeric id as the fourth field. What becomes of it is
 * the value of the attribute system.posix_acl_access: version 2, then tag 16, permissions 16, id 32 of each entry.
 * https://manpages.debian.org/bookworm/acl/acl.5.en.html
 */

const VERSION = 2;
const ENTRY_BYTES = 8;
const NO_ID = 0xffff_ffff;

/** Tags of entries without and with an id; entries are kept in the order of their tags. */
const TAGS: Readonly<Record<string, { readonly plain: number; readonly named?: number }>> = {
  user: { plain: 0x01, named: 0x02 },
  group: { plain: 0x04, named: 0x08 },
  mask: { plain: 0x10 },
  other: { plain: 0x20 },
};
/** The entries that say no more than a file's mode does: user, group, other. */
const MODE_ENTRIES = 3;
/** As many as the longest attribute that the kernel takes (XATTR_SIZE_MAX) has room for. */
const MAX_ENTRIES = Math.floor((65_536 - 4) / ENTRY_BYTES);

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

/** What became of an ACL's text. */
export interface ReadAcl {
  /** Of the attribute that keeps it; undefined for one that says nothing beyond the mode. */
  readonly value?: Buffer | undefined;
  /** Why it cannot be kept. */
  readonly problem?: string;
}

/** As {@link parseAcl}, for text that nobody is made to read: Docker and containerd do not. */
export function readAcl(text: string, kind: "access" | "default"): ReadAcl {
  try {
    return { value: parseAcl(text, kind) };
  } catch (error) {
    if (error instanceof TarError) return { problem: error.message };
    throw error;
  }
}

/**
 * The value of the attribute that an ACL is kept in; undefined for one that says nothing beyond the mode.
 * @param kind A default ACL counts even if it has only the three basic entries.
 * @throws TarError for anything that is not an ACL, and for a name whose number it does not say.
 */
export function parseAcl(text: string, kind: "access" | "default"): Buffer | undefined {
  const entries: AclEntry[] = [];
  // A million commas cost no string each.
  for (const [piece] of text.matchAll(/[^\n,]+/g)) {
    const line = piece.replace(/#.*/, "").trim();
    if (line === "") continue;
    if (entries.length === MAX_ENTRIES) throw new TarError(`an ACL has more than ${MAX_ENTRIES} entries`);
    entries.push(parseEntry(line));
  }
  entries.sort((a, b) => a.tag - b.tag || a.id - b.id);
  checkWhole(entries);
  if (kind === "access" && entries.length === MODE_ENTRIES) return undefined;
  const bytes = Buffer.alloc(4 + ENTRY_BYTES * entries.length);
  bytes.writeUInt32LE(VERSION, 0);
  entries.forEach(({ tag, permissions, id }, index) => {
    const at = 4 + ENTRY_BYTES * index;
    bytes.writeUInt16LE(tag, at);
    bytes.writeUInt16LE(permissions, at + 2);
    bytes.writeUInt32LE(id, at + 4);
  });
  return bytes;
}

function parseEntry(line: string): AclEntry {
  const fields = line.replace(/^d(efault)?:/, "").split(":");
  const name = fields[0] ?? "";
  const kind = Object.keys(TAGS).find((tag) => tag === name || tag[0] === name);
  const tags = kind === undefined ? undefined : TAGS[kind];
  // "mask:r-x" and "other:r-x" may be written without the field that is empty anyhow.
  if (fields.length === 2 && tags?.named === undefined) fields.splice(1, 0, "");
  const [, qualifier = "", permissions = "", number] = fields.map((field) => field.trim());
  const known = tags !== undefined && fields.length <= 4 && /^[rwx-]{1,3}$/.test(permissions);
  if (!known || (qualifier !== "" && tags.named === undefined)) {
    throw new TarError(`an ACL entry is malformed: ${JSON.stringify(line.slice(0, 80))}`);
  }
  const tag = qualifier === "" ? tags.plain : (tags.named ?? tags.plain);
  return { tag, permissions: bitsOf(permissions), id: qualifier === "" ? NO_ID : idOf(qualifier, number) };
}

function bitsOf(permissions: string): number {
  const bit = (letter: string, value: number) => (permissions.includes(letter) ? value : 0);
  return bit("r", 4) | bit("w", 2) | bit("x", 1);
}

/** Names mean something only where the archive was made, but for root's. */
function idOf(qualifier: string, number: string | undefined): number {
  const digits = number ?? (qualifier === "root" ? "0" : qualifier);
  const id = /^\d{1,10}$/.test(digits) ? Number(digits) : NO_ID;
  if (id >= NO_ID) {
    throw new TarError(
      `an ACL names ${JSON.stringify(qualifier.slice(0, 80))} and not its number ` +
        "(tar --xattrs --xattrs-include='*' records numbers)",
    );
  }
  return id;
}

/** An ACL has each of the basic entries, none twice, and a mask if it has named ones. */
function checkWhole(sorted: readonly AclEntry[]): void {
  const twice = sorted.find((entry, index) => {
    const next = sorted[index + 1];
    return next?.tag === entry.tag && next.id === entry.id;
  });
  if (twice !== undefined) throw new TarError("an ACL has an entry twice");
  const has = (tag: number) => sorted.some((entry) => entry.tag === tag);
  if (!has(0x01) || !has(0x04) || !has(0x20)) throw new TarError("an ACL lacks user, group or other");
  if ((has(0x02) || has(0x08)) && !has(0x10)) throw new TarError("an ACL lacks its mask");
}
