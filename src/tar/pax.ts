import { type ReadAcl, readAcl } from "./acl.ts";
import { TarError } from "./header.ts";

/*
 * PAX extended headers: records of "<length> <key>=<value>\n", the length counting the whole record. Values are
 * kept as bytes: an extended attribute is binary.
 * https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_02
 */

/** An extended attribute: the name as bytes in a latin1 string, the value as it is. */
export interface Xattr {
  readonly name: string;
  readonly value: Buffer;
}

/** A stretch of a sparse file that has data, in bytes. */
export interface SparseSegment {
  readonly offset: number;
  readonly length: number;
}

/** What PAX records say about one entry; undefined where they say nothing. */
export interface PaxAttributes {
  path?: string;
  linkPath?: string;
  size?: number;
  uid?: number;
  gid?: number;
  mtime?: PaxTime;
  atime?: PaxTime;
  xattrs?: Map<string, Buffer>;
  /** ACLs given as text, by the attributes that they are kept in: what counts where the attribute is not given. */
  acls?: Map<string, ReadAcl>;
  sparse?: PaxSparse;
}

/** A time with the nanoseconds that a double cannot carry. */
interface PaxTime {
  readonly sec: number;
  /** 0 to 999,999,999, counted upward from `sec` for negative times too. */
  readonly nsec: number;
}

/** GNU's sparse files in PAX form: 0.0 and 0.1 carry the map in records, 1.0 at the head of the data. */
interface PaxSparse {
  major?: number;
  minor?: number;
  name?: string;
  realSize?: number;
  /** Offsets and lengths in turn, from 0.0's repeated records or 0.1's list. */
  map: number[];
}

const SCHILY = "SCHILY.xattr.";
const SCHILY_ACL = "SCHILY.acl.";
const LIBARCHIVE = "LIBARCHIVE.xattr.";

/**
 * Adds the records in `bytes` to `into`; an empty value takes an attribute away.
 * @throws TarError for anything that is not a record.
 */
export function parsePax(bytes: Buffer, into: PaxAttributes): void {
  let at = 0;
  while (at < bytes.length) {
    // Some writers pad with NULs what the header's size already counts.
    if (bytes[at] === 0) return;
    const space = endOfDigits(bytes, at);
    const length = space - at > 9 || bytes[space] !== 0x20 ? 0 : digitsValue(bytes, at, space);
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (length === 0 || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw new TarError(`PAX header is malformed at byte ${at}`);
    }
    const key = bytes.toString("latin1", space + 1, equals);
    applyRecord(key, bytes.subarray(equals + 1, end - 1), into);
    at = end;
  }
}

function applyRecord(key: string, value: Buffer, into: PaxAttributes): void {
  switch (key) {
    case "path":
      setText("path", key, value, into);
      return;
    case "linkpath":
      setText("linkPath", key, value, into);
      return;
    case "size":
      setNumber("size", key, value, into);
      return;
    case "uid":
      setNumber("uid", key, value, into);
      return;
    case "gid":
      setNumber("gid", key, value, into);
      return;
    case "mtime":
      setTime("mtime", key, value, into);
      return;
    case "atime":
      setTime("atime", key, value, into);
      return;
    default:
      if (key.startsWith("GNU.sparse.")) applySparse(key.slice("GNU.sparse.".length), value, into);
      else if (key.startsWith(SCHILY)) setXattr(schilyName(key), Buffer.from(value), into);
      else if (key.startsWith(LIBARCHIVE)) applyLibarchive(key, value, into);
      else if (key.startsWith(SCHILY_ACL)) applyAcl(key.slice(SCHILY_ACL.length), value, into);
  }
}

function applyAcl(kind: string, value: Buffer, into: PaxAttributes): void {
  if (kind !== "access" && kind !== "default") return;
  const name = `system.posix_acl_${kind}`;
  into.acls ??= new Map();
  if (value.length === 0) into.acls.delete(name);
  else into.acls.set(name, readAcl(value.toString("latin1"), kind));
}

/** GNU tar encodes in the attribute's name what would end the key, and the sign that says so. */
function schilyName(key: string): string {
  return key.slice(SCHILY.length).replaceAll("%3D", "=").replaceAll("%25", "%");
}

/** libarchive writes the name percent-encoded and the value in base64; SCHILY's record, if there, is exact. */
function applyLibarchive(key: string, value: Buffer, into: PaxAttributes): void {
  const name = key
    .slice(LIBARCHIVE.length)
    .replaceAll(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  if (into.xattrs?.has(name) !== true) setXattr(name, Buffer.from(value.toString("latin1"), "base64"), into);
}

function setXattr(name: string, value: Buffer, into: PaxAttributes): void {
  if (name === "" || name.includes("\0")) throw new TarError("PAX header has an attribute without a name");
  into.xattrs ??= new Map();
  into.xattrs.set(name, value);
}

function applySparse(key: string, value: Buffer, into: PaxAttributes): void {
  into.sparse ??= { map: [] };
  const sparse = into.sparse;
  switch (key) {
    case "major":
      sparse.major = decimal(key, value);
      return;
    case "minor":
      sparse.minor = decimal(key, value);
      return;
    case "name":
      sparse.name = text(key, value);
      return;
    case "size":
    case "realsize":
      sparse.realSize = decimal(key, value);
      return;
    case "offset":
      if (sparse.map.length % 2 !== 0) throw new TarError("GNU.sparse.offset without its numbytes");
      sparse.map.push(decimal(key, value));
      return;
    case "numbytes":
      if (sparse.map.length % 2 !== 1) throw new TarError("GNU.sparse.numbytes without its offset");
      sparse.map.push(decimal(key, value));
      return;
    case "map":
      sparse.map =
        value.length === 0
          ? []
          : value
              .toString("latin1")
              .split(",")
              .map((part) => decimal(key, part));
  }
}

function setText(field: "path" | "linkPath", key: string, value: Buffer, into: PaxAttributes): void {
  if (value.length === 0) delete into[field];
  else into[field] = text(key, value);
}

function setNumber(field: "size" | "uid" | "gid", key: string, value: Buffer, into: PaxAttributes): void {
  if (value.length === 0) delete into[field];
  else into[field] = decimal(key, value);
}

function setTime(field: "mtime" | "atime", key: string, value: Buffer, into: PaxAttributes): void {
  if (value.length === 0) delete into[field];
  else into[field] = parseTime(key, value);
}

function text(key: string, value: Buffer): string {
  if (value.includes(0)) throw new TarError(`PAX ${key} contains a NUL byte`);
  return value.toString("latin1");
}

function decimal(key: string, value: Buffer | string): number {
  const digits = typeof value === "string" ? value : value.toString("latin1");
  const result = /^[0-9]{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(result)) {
    throw new TarError(`PAX ${key} is not a number: ${JSON.stringify(digits.slice(0, 40))}`);
  }
  return result;
}

/** A time as most entries have it is read without a string of it. */
function parseTime(key: string, value: Buffer): PaxTime {
  const negative = value[0] === 0x2d;
  const start = negative ? 1 : 0;
  const point = endOfDigits(value, start);
  const end = point < value.length ? endOfDigits(value, point + 1) : point;
  const isTime = point > start && point - start <= 15 && end === value.length;
  if (!isTime || (point < value.length && value[point] !== 0x2e)) {
    const shown = JSON.stringify(value.toString("latin1", 0, 40));
    throw new TarError(`PAX ${key} is not a time: ${shown}`);
  }
  const sec = digitsValue(value, start, point);
  const last = Math.min(end, point + 1 + NANOSECOND_DIGITS);
  const digits = Math.max(0, last - point - 1);
  const nsec = digitsValue(value, point + 1, last) * 10 ** (NANOSECOND_DIGITS - digits);
  if (!negative) return { sec, nsec };
  return nsec === 0 ? { sec: 0 - sec, nsec: 0 } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}

const NANOSECOND_DIGITS = 9;

/** Where the digits that begin at `at` end. */
function endOfDigits(bytes: Buffer, at: number): number {
  let end = at;
  for (let byte = bytes[end] ?? 0; byte >= 0x30 && byte <= 0x39; byte = bytes[end] ?? 0) end++;
  return end;
}

function digitsValue(bytes: Buffer, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + (bytes[i] ?? 0x30) - 0x30;
  return value;
}
