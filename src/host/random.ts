import { closeSync, openSync, readFileSync, readSync } from "node:fs";

/** A random UUID of the kernel's, random(4): the first of node:crypto costs its loading, some four milliseconds. */
export function randomUuid(): string {
  return readFileSync("/proc/sys/kernel/random/uuid", "latin1").trim();
}

/** 32 random bits: the kernel's as well. */
export function randomWord(): number {
  return Number.parseInt(randomUuid().slice(0, 8), 16);
}

/** So many random bytes: the kernel's, too. */
export function randomSeed(bytes: number): Uint8Array {
  const seed = new Uint8Array(bytes);
  const device = openSync("/dev/urandom", "r");
  try {
    // Up to 256 bytes come at once, random(4).
    readSync(device, seed);
  } finally {
    closeSync(device);
  }
  return seed;
}
