/**
 * CRC-32C (Castagnoli), as the control drive and ext4 use it. `zlib.crc32` is another polynomial.
 * Slicing by eight: https://www.intel.com/content/dam/www/public/us/en/documents/white-papers/crc-iscsi-polynomial-crc32-instruction-paper.pdf
 */
const REVERSED_POLYNOMIAL = 0x82f63b78;
const SLICES = 8;

type Table = Uint32Array;
type EightTables = readonly [Table, Table, Table, Table, Table, Table, Table, Table];

let tables: readonly Table[] | undefined;

function makeTables(): readonly Table[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ REVERSED_POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  // Table n holds the effect of a byte followed by n zero bytes.
  const made = [first];
  for (let previous = first; made.length < SLICES; ) {
    previous = previous.map((crc) => (crc >>> 8) ^ (first[crc & 0xff] ?? 0));
    made.push(previous);
  }
  return made;
}

/** The checksum of `bytes`, or of what `previous` is the checksum of followed by `bytes`. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  tables ??= makeTables();
  // Eight tables of 256 entries are made above, and every index below is at most 255. The casts say so: a
  // check of each would double the cost of the innermost loop.
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as unknown as EightTables;
  let crc = ~previous;
  let at = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const end = bytes.length - 7; at < end; at += 8) {
    const low = view.getUint32(at, true) ^ crc;
    const high = view.getUint32(at + 4, true);
    crc =
      (t7[low & 0xff] as number) ^
      (t6[(low >>> 8) & 0xff] as number) ^
      (t5[(low >>> 16) & 0xff] as number) ^
      (t4[low >>> 24] as number) ^
      (t3[high & 0xff] as number) ^
      (t2[(high >>> 8) & 0xff] as number) ^
      (t1[(high >>> 16) & 0xff] as number) ^
      (t0[high >>> 24] as number);
  }
  for (; at < bytes.length; at++) {
    crc = (crc >>> 8) ^ (t0[(crc ^ view.getUint8(at)) & 0xff] as number);
  }
  return ~crc >>> 0;
}
