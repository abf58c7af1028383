import { FirectlError } from "./errors.ts";

export const KIB: number = 1024;
export const MIB: number = 1024 * KIB;
export const GIB: number = 1024 * MIB;

/** The longest that Node's timers take, which count in 32 bits; a longer wait would end at once. */
export const MAX_TIMER_MS: number = 2 ** 31 - 1;

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: KIB,
  m: MIB,
  g: GIB,
  t: 1024 * GIB,
};

/**
 * Reads a size as Docker writes it: a number, then optionally b, k, m, g or t (binary multiples; `kb`, `mib`
 * and the like mean the same). Returns bytes.
 * @throws FirectlError INVALID_ARGUMENT naming `flag`.
 */
export function parseSize(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  const factor = FACTORS[match?.[2]?.toLowerCase() ?? "-"];
  const bytes = match === null || factor === undefined ? Number.NaN : Math.floor(Number(match[1]) * factor);
  if (!Number.isSafeInteger(bytes)) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a size`, {
      hint: "write a number with b, k, m or g, for example 512m or 2g",
    });
  }
  return bytes;
}

/** Formats bytes as Docker's tables do: three digits, decimal multiples. */
export function formatSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(3))}${units[unit]}`;
}

/** Formats bytes of memory as Docker does: four digits, binary multiples. */
export function formatMemory(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= KIB && unit < units.length - 1) {
    value /= KIB;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
