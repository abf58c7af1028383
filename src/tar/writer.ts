import { FirectlError } from "../core/errors.ts";
import { BLOCK } from "./header.ts";
import type { SparseSegment } from "./pax.ts";
import type { EntryType, TarEntry } from "./reader.ts";

/*
 * Archives as POSIX wants them: ustar headers, and a PAX header before those whose fields are too small.
 * https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13
 * Sparse files in GNU's form 1.0, attributes in SCHILY's records, as GNU tar and Docker read them.
 * The bytes depend on the entries alone.
 */

/** An entry and its data: for a sparse file what its segments hold, one after the other. */
export interface TarContent {
  readonly entry: TarEntry;
  /** Needed where {@link storedSize} is not 0. */
  readonly data?: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | undefined;
}

const TYPE_FLAGS: Readonly<Record<EntryType, string>> = {
  file: "0",
  link: "1",
  symlink: "2",
  "character-device": "3",
  "block-device": "4",
  directory: "5",
  fifo: "6",
};

/** A name field's bytes, and those of the prefix that ustar puts before it. */
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
/** What eleven octal digits hold: sizes below 8 GiB, times to the year 2242. */
const MAX_OCTAL_12 = 8 ** 11 - 1;
/** What seven octal digits hold. */
const MAX_OCTAL_8 = 8 ** 7 - 1;
const NO_BYTES: Buffer = Buffer.alloc(0);
const ZERO_BLOCK: Buffer = Buffer.alloc(BLOCK);

/** Two blocks of zeros. */
export const END_OF_ARCHIVE: Buffer = Buffer.alloc(2 * BLOCK);

/**
 * The archive of `contents`, piece by piece.
 * @throws FirectlError IO_FAILED when an entry's data is shorter or longer than the entry says.
 */
export async function* writeTar(
  contents: AsyncIterable<TarContent> | Iterable<TarContent>,
): AsyncGenerator<Uint8Array, void> {
  for await (const { entry, data } of contents) {
    yield encodeHeaders(entry);
    const size = storedSize(entry);
    let written = 0;
    for await (const chunk of data ?? []) {
      written += chunk.length;
      if (written > size) throw wrongSize(entry, size, "more");
      yield chunk;
    }
    if (written < size) throw wrongSize(entry, size, `${written}`);
    const padding = paddingAfter(size);
    if (padding.length > 0) yield padding;
  }
  yield END_OF_ARCHIVE;
}

function wrongSize(entry: TarEntry, size: number, got: string): FirectlError {
  const name = Buffer.from(entry.path, "latin1").toString("utf8");
  return new FirectlError("IO_FAILED", `${name}: ${size} bytes of data were expected, ${got} came`);
}

/** How many bytes of data follow the headers of `entry`, padding not counted. */
export function storedSize(entry: TarEntry): number {
  if (entry.type !== "file") return 0;
  return entry.sparse === undefined
    ? entry.size
    : entry.sparse.reduce((total, { length }) => total + length, 0);
}

/** The zeros that fill the last block of `size` bytes of data. */
export function paddingAfter(size: number): Buffer {
  return ZERO_BLOCK.subarray(0, (BLOCK - (size % BLOCK)) % BLOCK);
}

/** Everything that stands before an entry's data: PAX header, header, and a sparse file's map. */
export function encodeHeaders(entry: TarEntry): Buffer {
  const sparse = entry.type === "file" ? entry.sparse : undefined;
  const map = sparse === undefined ? NO_BYTES : encodeSparseMap(sparse, entry.size);
  const path = entry.type === "directory" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
  const size = map.length + storedSize(entry);
  const pax = paxRecords({ ...entry, path, sparse }, size);
  const header = encodeHeader({ ...entry, size, path: sparse === undefined ? path : sparseName(path) });
  if (pax.length === 0) return map.length === 0 ? header : Buffer.concat([header, map]);
  const paxHeader = encodeHeader({
    ...PAX_HEADER,
    path: `PaxHeaders.0/${ascii(baseName(path))}`.slice(0, NAME_BYTES),
    size: pax.length,
  });
  return Buffer.concat([paxHeader, pax, paddingAfter(pax.length), header, map]);
}

const PAX_HEADER = {
  typeFlag: "x",
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeSec: 0,
  linkPath: "",
  devMajor: 0,
  devMinor: 0,
} as const;

/** What a reader that knows nothing of GNU's sparse files would create: never the file itself. */
function sparseName(path: string): string {
  return `GNUSparseFile.0/${ascii(baseName(path))}`.slice(0, NAME_BYTES);
}

/** Whatever of `entry` its header cannot hold; `size` is the number of bytes that follow the header. */
function paxRecords(entry: TarEntry, size: number): Buffer {
  const records: Buffer[] = [];
  const add = (key: string, value: string | Buffer | number) => records.push(paxRecord(key, value));
  if (entry.sparse !== undefined) {
    add("GNU.sparse.major", 1);
    add("GNU.sparse.minor", 0);
    add("GNU.sparse.name", entry.path);
    add("GNU.sparse.realsize", entry.size);
  } else if (!isAscii(entry.path) || splitName(entry.path) === undefined) {
    add("path", entry.path);
  }
  if (entry.linkPath.length > NAME_BYTES || !isAscii(entry.linkPath)) add("linkpath", entry.linkPath);
  if (size > MAX_OCTAL_12) add("size", size);
  if (entry.uid > MAX_OCTAL_8) add("uid", entry.uid);
  if (entry.gid > MAX_OCTAL_8) add("gid", entry.gid);
  const { mtimeSec, mtimeNsec, atimeSec, atimeNsec } = entry;
  if (mtimeNsec !== 0 || mtimeSec < 0 || mtimeSec > MAX_OCTAL_12) add("mtime", timeText(mtimeSec, mtimeNsec));
  if (atimeSec !== mtimeSec || atimeNsec !== mtimeNsec) add("atime", timeText(atimeSec, atimeNsec));
  for (const { name, value } of entry.xattrs ?? []) {
    // As GNU tar does it: a key ends at the first equals sign.
    add(`SCHILY.xattr.${name.replaceAll("%", "%25").replaceAll("=", "%3D")}`, value);
  }
  return records.length === 0 ? NO_BYTES : Buffer.concat(records);
}

/** `<length> <key>=<value>\n`, the length counting the whole record, itself included. */
function paxRecord(key: string, value: string | Buffer | number): Buffer {
  const head = Buffer.from(` ${key}=`, "latin1");
  const body = Buffer.isBuffer(value) ? value : Buffer.from(String(value), "latin1");
  const rest = head.length + body.length + 1;
  let length = rest + String(rest).length;
  // The length's own digits may make it one digit longer.
  length = rest + String(length).length;
  return Buffer.concat([Buffer.from(String(length), "latin1"), head, body, NEWLINE]);
}

const NEWLINE: Buffer = Buffer.from("\n");

/** A time in decimal, to the nanosecond: `nsec` counts upward from `sec`, also where that is negative. */
function timeText(sec: number, nsec: number): string {
  if (nsec === 0) return String(sec);
  const negative = sec < 0;
  const whole = negative ? -sec - 1 : sec;
  const fraction = String(negative ? 1_000_000_000 - nsec : nsec).padStart(9, "0");
  return `${negative ? "-" : ""}${whole}.${fraction.replace(/0+$/, "")}`;
}

/**
 * GNU's map 1.0: count, then offset and length of each segment, a line each. A last empty segment at the file's
 * end is what tells GNU tar of a hole there.
 */
function encodeSparseMap(segments: readonly SparseSegment[], realSize: number): Buffer {
  const last = segments.at(-1);
  const end = last === undefined ? 0 : last.offset + last.length;
  const all = end === realSize ? segments : [...segments, { offset: realSize, length: 0 }];
  const lines = all.map(({ offset, length }) => `${offset}\n${length}\n`);
  const text = Buffer.from(`${all.length}\n${lines.join("")}`, "latin1");
  return Buffer.concat([text, paddingAfter(text.length)]);
}

interface HeaderFields
  extends Pick<
    TarEntry,
    "path" | "mode" | "uid" | "gid" | "size" | "mtimeSec" | "linkPath" | "devMajor" | "devMinor"
  > {
  readonly type?: EntryType;
  /** For headers that are no entries. */
  readonly typeFlag?: string;
}

/** One ustar header; the fields' offsets are in header.ts. What does not fit stands in the PAX header. */
function encodeHeader(fields: HeaderFields): Buffer {
  const header = Buffer.alloc(BLOCK);
  const { type = "file", typeFlag = TYPE_FLAGS[type] } = fields;
  const { name, prefix } = splitName(fields.path) ?? { name: fields.path.slice(0, NAME_BYTES), prefix: "" };
  header.write(ascii(name), 0, NAME_BYTES, "latin1");
  octal(header, 100, 8, fields.mode & 0o7777);
  octal(header, 108, 8, fields.uid > MAX_OCTAL_8 ? 0 : fields.uid);
  octal(header, 116, 8, fields.gid > MAX_OCTAL_8 ? 0 : fields.gid);
  octal(header, 124, 12, fields.size > MAX_OCTAL_12 ? 0 : fields.size);
  octal(header, 136, 12, Math.min(Math.max(fields.mtimeSec, 0), MAX_OCTAL_12));
  header.write(typeFlag, 156, 1, "latin1");
  header.write(ascii(fields.linkPath), 157, NAME_BYTES, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  if (type === "character-device" || type === "block-device") {
    octal(header, 329, 8, fields.devMajor);
    octal(header, 337, 8, fields.devMinor);
  } else {
    octal(header, 329, 8, 0);
    octal(header, 337, 8, 0);
  }
  header.write(ascii(prefix), 345, PREFIX_BYTES, "latin1");
  header.write("        ", 148, "latin1");
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

/**
 * Octal digits and a NUL. For what neither they nor PAX can hold (negative ids, huge device numbers) GNU's
 * base-256, which everyone reads.
 */
function octal(header: Buffer, at: number, length: number, value: number): void {
  if (value >= 0 && value < 8 ** (length - 1)) {
    header.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
    return;
  }
  let rest = BigInt(value);
  for (let i = at + length - 1; i >= at; i--) {
    header[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  header[at] = (header[at] ?? 0) | 0x80;
}

/** Name and prefix of a path that fits into them, cut at the last slash that leaves a name. */
function splitName(path: string): { name: string; prefix: string } | undefined {
  if (path.length <= NAME_BYTES) return { name: path, prefix: "" };
  if (path.length > PREFIX_BYTES + 1 + NAME_BYTES) return undefined;
  const slash = path.indexOf("/", path.length - NAME_BYTES - 1);
  if (slash <= 0 || slash > PREFIX_BYTES || slash === path.length - 1) return undefined;
  return { name: path.slice(slash + 1), prefix: path.slice(0, slash) };
}

function baseName(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  return trimmed.slice(trimmed.lastIndexOf("/") + 1);
}

function isAscii(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ustar's names are ASCII, control characters too.
  return /^[\x00-\x7f]*$/.test(text);
}

function ascii(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: as above.
  return text.replaceAll(/[^\x00-\x7f]/g, "_");
}
