import { readFileSync } from "node:fs";

/** A random UUID of the kernel's, random(4): the first of node:crypto costs its loading, some four milliseconds. */
export function randomUuid(): string {
  return readFileSync("/proc/sys/kernel/random/uuid", "latin1").trim();
}

/** 32 random bits: the kernel's as well. */
export function randomWord(): number {
  return Number.parseInt(randomUuid().slice(0, 8), 16);
}
