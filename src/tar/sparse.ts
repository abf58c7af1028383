import { number, TarError } from "./header.ts";
import type { SparseSegment } from "./pax.ts";

/*
 * The maps of GNU sparse files, https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html
 * Old format: 4 pairs in the header at 386, then blocks of 21 pairs with a "more" flag at 504.
 * PAX 1.0: decimal lines at the head of the data (count, then offset and length in turn), padded to 512.
 */

/** Most segments a sparse map may have. */
const MAX_SEGMENTS = 1 << 20;

/** Adds `count` pairs of an old GNU map to `map`; a pair that starts with NUL ends it. */
export function readOldPairs(bytes: Buffer, at: number, count: number, map: number[]): void {
  for (let i = 0; i < count; i++) {
    const pair = at + i * 24;
    if (bytes[pair] === 0) return;
    map.push(number(bytes, pair, 12, "sparse offset"), number(bytes, pair + 12, 12, "sparse length"));
    if (map.length > 2 * MAX_SEGMENTS) throw new TarError("sparse map has too many segments");
  }
}

/** Gathers a PAX 1.0 map, which says only while being read how long it is. */
export class SparseMapReader {
  #numbers: number[] = [];
  #digits = "";
  /** How many numbers are to come, known once the first line is. */
  #expected: number | undefined;

  /** Takes one 512-byte block; returns the offsets and lengths once the map is whole. */
  push(block: Buffer): number[] | undefined {
    for (const byte of block) {
      if (byte !== 0x0a) {
        if (this.#digits.length > 16) throw new TarError("sparse map holds something that is not a number");
        this.#digits += String.fromCharCode(byte);
        continue;
      }
      const value = line(this.#digits);
      this.#digits = "";
      if (this.#expected !== undefined) this.#numbers.push(value);
      else if (value > MAX_SEGMENTS) throw new TarError(`sparse map has too many segments: ${value}`);
      else this.#expected = 2 * value;
      if (this.#numbers.length === this.#expected) return this.#numbers;
    }
    return undefined;
  }
}

function line(digits: string): number {
  const value = /^[0-9]{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new TarError("sparse map holds something that is not a number");
  return value;
}

/**
 * The segments that a map names, empty ones left out.
 * @throws TarError unless they rise, do not overlap, end within `realSize` and together hold `stored` bytes.
 */
export function sparseSegments(map: readonly number[], realSize: number, stored: number): SparseSegment[] {
  if (map.length % 2 !== 0) throw new TarError("sparse map has an offset without a length");
  const segments: SparseSegment[] = [];
  let end = 0;
  let total = 0;
  for (let i = 0; i < map.length; i += 2) {
    const offset = map[i] ?? 0;
    const length = map[i + 1] ?? 0;
    if (offset < end || offset + length > realSize) {
      throw new TarError(`sparse map is wrong: ${length} bytes at ${offset} in a file of ${realSize}`);
    }
    end = offset + length;
    total += length;
    if (length > 0) segments.push({ offset, length });
  }
  if (total !== stored) {
    throw new TarError(`sparse map names ${total} bytes of data, the entry has ${stored}`);
  }
  return segments;
}
