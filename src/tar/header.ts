/*
 * One 512-byte tar header. The four formats share the first 257 bytes:
 *
 *     0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8
 *   156 type 1 | 157 linkname 100 | 257 magic 6 + version 2 | 265 uname 32 | 297 gname 32
 *   329 devmajor 8 | 337 devminor 8
 *   345 ustar: prefix 155 | star: prefix 131, "tar\0" at 508
 *   345 GNU: atime 12, ctime 12, offset 12, longnames 4, unused 1, 386 sparse 4 × 24, 482 isextended, 483 realsize 12
 *
 * https://www.gnu.org/software/tar/manual/html_node/Standard.html
 * https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 */

/** Size of a header and the unit to which an entry's data is padded. */
export const BLOCK = 512;

/** A header as it stands; names are bytes in latin1 strings. */
export interface Header {
  name: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Seconds since the epoch, possibly negative. */
  mtime: number;
  /** Character code of the type flag. */
  type: number;
  linkName: string;
  devMajor: number;
  devMinor: number;
  /** Whether the GNU magic stands in it: then the prefix area holds GNU's own fields. */
  gnu: boolean;
}

/** A problem of the tar itself; whoever reads the layer adds layer and entry. */
export class TarError extends Error {
  override readonly name = "TarError";
}

/** There is something else where a header should be. */
export class NoHeaderError extends TarError {
  constructor(why: string) {
    super(`not a tar header: ${why}`);
  }
}

/** Whether the 512 bytes at `at` are all zero: the archive's end is two such blocks. */
export function isZeroBlock(bytes: Buffer, at: number): boolean {
  if (bytes[at] !== 0) return false;
  for (let i = at + 1; i < at + BLOCK; i++) if (bytes[i] !== 0) return false;
  return true;
}

/**
 * Reads the header at `at`.
 * @throws TarError for a wrong checksum or a field that is no number.
 */
export function parseHeader(bytes: Buffer, at: number): Header {
  verifyChecksum(bytes, at);
  // magic "ustar\0" is POSIX, "ustar " GNU's; anything else is V7, which ends at byte 257.
  const magic = isUstar(bytes, at + 257) ? bytes[at + 262] : undefined;
  const posix = magic === 0;
  let name = cString(bytes, at, 100);
  if (posix && bytes[at + 345] !== 0) {
    const star = bytes.toString("latin1", at + 508, at + 512) === "tar\0";
    name = `${cString(bytes, at + 345, star ? 131 : 155)}/${name}`;
  }
  const type = bytes[at + 156] ?? 0;
  const device = type === 0x33 || type === 0x34;
  return {
    name,
    mode: number(bytes, at + 100, 8, "mode"),
    uid: number(bytes, at + 108, 8, "uid"),
    gid: number(bytes, at + 116, 8, "gid"),
    size: number(bytes, at + 124, 12, "size"),
    mtime: number(bytes, at + 136, 12, "mtime"),
    type,
    linkName: bytes[at + 157] === 0 ? "" : cString(bytes, at + 157, 100),
    devMajor: device && magic !== undefined ? number(bytes, at + 329, 8, "devmajor") : 0,
    devMinor: device && magic !== undefined ? number(bytes, at + 337, 8, "devminor") : 0,
    gnu: magic === 0x20,
  };
}

/** The sum of all bytes, those of the checksum field counted as spaces; old tars summed signed bytes. */
function verifyChecksum(bytes: Buffer, at: number): void {
  const stored = storedChecksum(bytes, at);
  const end = at + BLOCK;
  let sum = sumOfBytes(bytes, at);
  for (let i = at + 148; i < at + 156; i++) sum += 0x20 - (bytes[i] ?? 0);
  if (sum === stored) return;
  let high = 0;
  for (let i = at; i < end; i++) if ((bytes[i] ?? 0) >= 0x80 && (i < at + 148 || i >= at + 156)) high++;
  if (sum - 256 * high !== stored) {
    throw new NoHeaderError(`its checksum is ${stored}, the bytes sum to ${sum}`);
  }
}

function storedChecksum(bytes: Buffer, at: number): number {
  try {
    return number(bytes, at + 148, 8, "checksum");
  } catch {
    // Not quoted: of what is no tar it may be anything.
    throw new NoHeaderError("its checksum is no number");
  }
}

/** The sum of a header's bytes, four at a time: this is half of what reading a header takes. */
function sumOfBytes(bytes: Buffer, at: number): number {
  // Two sums of 16 bits in one number; neither overflows in 128 steps of at most 2 × 255.
  let sums = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, BLOCK);
  for (let i = 0; i < BLOCK; i += 4) {
    const word = view.getInt32(i);
    sums = (sums + (word & 0x00ff_00ff) + ((word >>> 8) & 0x00ff_00ff)) | 0;
  }
  return (sums & 0xffff) + (sums >>> 16);
}

function isUstar(bytes: Buffer, at: number): boolean {
  return (
    bytes[at] === 0x75 &&
    bytes[at + 1] === 0x73 &&
    bytes[at + 2] === 0x74 &&
    bytes[at + 3] === 0x61 &&
    bytes[at + 4] === 0x72
  );
}

/** A string that ends at the first NUL or at the field's end. */
export function cString(bytes: Buffer, at: number, length: number): string {
  let end = at;
  const limit = at + length;
  while (end < limit && bytes[end] !== 0) end++;
  return bytes.toString("latin1", at, end);
}

/**
 * A numeric field: octal digits between spaces and NULs, or base-256 big-endian two's complement when the top
 * bit is set (GNU, star), as sizes beyond 8 GiB and ids beyond 2^21 need.
 * @throws TarError naming `field`.
 */
export function number(bytes: Buffer, at: number, length: number, field: string): number {
  const first = bytes[at] ?? 0;
  if (first >= 0x80) return base256(bytes, at, length, field);
  let i = at;
  const end = at + length;
  while (i < end && (bytes[i] === 0x20 || bytes[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = (bytes[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end; i++) {
    if (bytes[i] !== 0x20 && bytes[i] !== 0) {
      throw new TarError(
        `${field} is not a number: ${JSON.stringify(bytes.toString("latin1", at, end).replaceAll("\0", " "))}`,
      );
    }
  }
  return value;
}

function base256(bytes: Buffer, at: number, length: number, field: string): number {
  const first = bytes[at] ?? 0;
  const negative = (first & 0x40) !== 0;
  // The top bit only marks the encoding; bit 6 is the sign.
  let value = negative ? (first & 0x7f) - 0x80 : first & 0x7f;
  for (let i = at + 1; i < at + length; i++) value = value * 256 + (bytes[i] ?? 0);
  if (!Number.isSafeInteger(value)) throw new TarError(`${field} is out of range`);
  return value;
}
