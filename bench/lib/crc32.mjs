/* The CRC-32 of gzip, reflected. Node has one of its own only from 20.15 on. */

const POLYNOMIAL = 0xedb88320;
const BITS = 32;

export function crc32(bytes) {
  let register = 0xffffffff;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register >>> 1) ^ (register & 1 ? POLYNOMIAL : 0);
  }
  return ~register >>> 0;
}

/**
 * The CRC-32 of A followed by B, from that of each and the length of B: the register after A is taken through as
 * many zero bytes, by squaring the linear map of one bit (as zlib's crc32_combine does).
 */
export function combinedCrc32(crcOfA, crcOfB, lengthOfB) {
  // Column i is where the bit i goes: oneBit shifts right and feeds back.
  let map = Array.from({ length: BITS }, (_, bit) => (bit === 0 ? POLYNOMIAL : 2 ** (bit - 1)));
  let moved = crcOfA;
  for (let bits = BigInt(lengthOfB) * 8n; bits > 0n; bits >>= 1n) {
    if (bits & 1n) moved = applied(map, moved);
    const once = map;
    map = once.map((column) => applied(once, column));
  }
  return (moved ^ crcOfB) >>> 0;
}

function applied(map, vector) {
  let sum = 0;
  for (let bit = 0; bit < BITS; bit++) if ((vector >>> bit) & 1) sum ^= map[bit];
  return sum >>> 0;
}
