/*
 * The half MD4 hash of indexed directories, fs/ext4/hash.c of the kernel, characters taken as signed.
 */

/** Beyond the largest hash that a name can have: htree's end-of-file mark, shifted as hashes are. */
const END_OF_DIRECTORY = 0xffff_fffe;

const ROUND_2 = 0x5a82_7999;
const ROUND_3 = 0x6ed9_eba1;
/** Word order and shifts of the three rounds; each runs twice over four of the eight words. */
const ORDER_2 = [1, 3, 5, 7, 0, 2, 4, 6] as const;
const ORDER_3 = [3, 7, 2, 6, 1, 5, 0, 4] as const;
const SHIFT_1 = [3, 7, 11, 19] as const;
const SHIFT_2 = [3, 5, 9, 13] as const;
const SHIFT_3 = [3, 9, 11, 15] as const;

/** The hash that orders `name` (bytes in a latin1 string) in a directory; the lowest bit is always 0. */
export function directoryHash(name: string, seed: Uint32Array): number {
  const state = seed.some((word) => word !== 0)
    ? Uint32Array.from(seed)
    : Uint32Array.of(0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476);
  const words = new Uint32Array(8);
  for (let at = 0; at < name.length; at += 32) {
    packWords(name, at, words);
    transform(state, words);
  }
  const hash = ((state[1] ?? 0) & ~1) >>> 0;
  return hash === END_OF_DIRECTORY ? END_OF_DIRECTORY - 2 : hash;
}

/** str2hashbuf_signed(): up to 32 characters from `at` on, four to a word, padded with the length left. */
function packWords(name: string, at: number, words: Uint32Array): void {
  const left = name.length - at;
  const low = (left | (left << 8)) >>> 0;
  const pad = (low | (low << 16)) >>> 0;
  const length = Math.min(left, 32);
  words.fill(pad);
  let value = pad;
  for (let i = 0; i < length; i++) {
    // The shift pair makes a signed char of the byte.
    value = (((name.charCodeAt(at + i) << 24) >> 24) + (value << 8)) | 0;
    words[i >> 2] = value;
    if ((i & 3) === 3) value = pad;
  }
}

function transform(state: Uint32Array, words: Uint32Array): void {
  const mixed = Uint32Array.from(state);
  for (let i = 0; i < 8; i++) {
    step(mixed, i, words[i] ?? 0, SHIFT_1, (x, y, z) => z ^ (x & (y ^ z)));
  }
  for (let i = 0; i < 8; i++) {
    const word = (words[ORDER_2[i] ?? 0] ?? 0) + ROUND_2;
    step(mixed, i, word, SHIFT_2, (x, y, z) => (x & y) + ((x ^ y) & z));
  }
  for (let i = 0; i < 8; i++) {
    const word = (words[ORDER_3[i] ?? 0] ?? 0) + ROUND_3;
    step(mixed, i, word, SHIFT_3, (x, y, z) => x ^ y ^ z);
  }
  for (let i = 0; i < 4; i++) state[i] = (state[i] ?? 0) + (mixed[i] ?? 0);
}

/** One round's step: the roles a, b, c, d move back by one place each time. */
function step(
  mixed: Uint32Array,
  i: number,
  word: number,
  shifts: readonly number[],
  mix: (x: number, y: number, z: number) => number,
): void {
  const a = (4 - (i & 3)) & 3;
  const b = mixed[(a + 1) & 3] ?? 0;
  const c = mixed[(a + 2) & 3] ?? 0;
  const d = mixed[(a + 3) & 3] ?? 0;
  const sum = ((mixed[a] ?? 0) + mix(b, c, d) + word) | 0;
  const shift = shifts[i & 3] ?? 0;
  mixed[a] = (sum << shift) | (sum >>> (32 - shift));
}
