import { constants } from "node:os";
import { FirectlError } from "../core/errors.ts";
import { closest } from "../core/spelling.ts";
import { MAX_TIMER_MS, MIB, parseSize } from "../core/units.ts";

/** Readers of flag values: each takes the text and the flag as the user wrote it, and names both on failure. */
function invalidValue(flag: string, text: string, expected: string, hint?: string): FirectlError {
  const message = `${flag}: "${text}" is not ${expected}`;
  return new FirectlError("INVALID_ARGUMENT", message, hint === undefined ? {} : { hint });
}

/** Any text but the empty one. */
export function parseText(text: string, flag: string): string {
  if (text === "" || text.includes("\0")) throw invalidValue(flag, text, "a value (it must not be empty)");
  return text;
}

/** Go's spellings of a boolean, as docker takes them in `--flag=false`. */
export function parseBoolean(text: string, flag: string): boolean {
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw invalidValue(flag, text, "true or false");
}

/** A reader of one of the given words. */
export function choice<const Word extends string>(
  ...words: readonly Word[]
): (text: string, flag: string) => Word {
  return (text, flag) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    const like = closest(text, words);
    throw invalidValue(
      flag,
      text,
      `one of ${words.join(", ")}`,
      like === undefined ? `write ${flag} ${words[0]}` : `did you mean ${flag} ${like}?`,
    );
  };
}

/** A reader of whole numbers within bounds, both included. */
export function wholeNumber(min: number, max: number): (text: string, flag: string) => number {
  return (text, flag) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) {
      throw invalidValue(flag, text, `a whole number from ${min} to ${max}`);
    }
    return value;
  };
}

/** A reader of sizes (`512m`, `10g`) with a lower bound in bytes, a whole number of MiB. */
export function sizeOfAtLeast(min: number): (text: string, flag: string) => number {
  return (text, flag) => {
    const bytes = parseSize(text, flag);
    if (bytes >= min) return bytes;
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is less than ${min / MIB}m, the least`);
  };
}

/** A wait: seconds (`10`, docker's form), or a duration (`1m30s`). Milliseconds, at most 24 days. */
export function parseWait(text: string, flag: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : durationMs(text);
  if (ms === undefined || !(ms <= MAX_TIMER_MS)) {
    throw invalidValue(
      flag,
      text,
      "a time to wait",
      "write seconds (10) or a duration (500ms, 1m30s), at most 24 days",
    );
  }
  return Math.round(ms);
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "\u00b5s": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** A Go duration (`1h30m`, `1.5s`), with `d` for days besides; undefined when it is none. */
export function durationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ns|us|\u00b5s|ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|\u00b5s|ms|s|m|h|d)/g)) {
    total += Number(number) * (UNIT_MS[unit ?? ""] ?? Number.NaN);
  }
  return total;
}

/**
 * A moment as `docker logs --since` takes it: RFC 3339, with less of it (a date, no zone: local time), Unix
 * seconds with fraction, or a duration before now. Nanoseconds since the Unix epoch.
 */
export function parseMoment(text: string, flag: string): bigint {
  const seconds = /^(\d{1,11})(?:\.(\d{1,9}))?$/.exec(text);
  if (seconds !== null) {
    return BigInt(seconds[1] ?? 0) * 1_000_000_000n + BigInt((seconds[2] ?? "").padEnd(9, "0"));
  }
  const before = durationMs(text);
  if (before !== undefined && before < Date.now()) {
    return BigInt(Date.now()) * 1_000_000n - BigInt(Math.round(before * 1e6));
  }
  const moment = /^(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?$/.exec(
    text,
  );
  if (moment !== null) {
    const [, date, time = "00:00", fraction = "", zone = ""] = moment;
    const ms = Date.parse(`${date}T${time}${zone}`);
    const day = Date.parse(`${date}T00:00Z`);
    // Date.parse rolls 30 February over into March.
    if (!Number.isNaN(ms) && ms >= 0 && new Date(day).toISOString().slice(0, 10) === date) {
      return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
    }
  }
  throw invalidValue(
    flag,
    text,
    "a time",
    "write a duration before now (10m, 1h30m), an RFC 3339 time (2026-01-31T12:00:00Z) or Unix seconds",
  );
}

/** A VM name, by docker's rule for container names. */
export function parseName(text: string, flag: string): string {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(text)) {
    throw invalidValue(
      flag,
      text,
      "a name",
      "use letters, digits, '_', '.' and '-', the first a letter or digit, at most 128",
    );
  }
  return text;
}

/** A host name of the guest: at most 63 bytes, HOST_NAME_MAX less its NUL. */
export function parseHostname(text: string, flag: string): string {
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$/.test(text)) {
    throw invalidValue(flag, text, "a host name", "use letters, digits, '-' and '.', at most 63");
  }
  return text;
}

/** `os/arch[/variant]`, https://github.com/opencontainers/image-spec/blob/main/image-index.md */
export function parsePlatform(text: string, flag: string): string {
  if (!/^linux\/[a-z0-9_]+(\/[a-z0-9.]+)?$/.test(text)) {
    throw invalidValue(flag, text, "a platform", "write linux/amd64, linux/arm64 or linux/arm64/v8");
  }
  return text;
}

/** `user`, `uid`, either with `:group` or `:gid`. */
export function parseUser(text: string, flag: string): string {
  if (!/^[^:\s\0]+(:[^:\s\0]*)?$/.test(text)) {
    throw invalidValue(flag, text, "a user", "write NAME, UID, NAME:GROUP or UID:GID");
  }
  return text;
}

/** An absolute path inside the guest. */
export function parseGuestPath(text: string, flag: string): string {
  if (!text.startsWith("/") || text.includes("\0")) {
    throw invalidValue(flag, text, "an absolute path", `it is one in the VM, for example ${flag} /srv/app`);
  }
  return text;
}

/** Real-time signals of Linux as the C library numbers them, signal(7). */
const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** A signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`. Returns its canonical name, or a number for real-time ones. */
export function parseSignal(text: string, flag: string): string {
  const signal = signalOf(text.toUpperCase());
  if (signal === undefined)
    throw invalidValue(flag, text, "a signal", "write a name (SIGTERM, HUP) or a number from 1 to 64");
  return signal;
}

function signalOf(text: string): string | undefined {
  if (/^\d{1,2}$/.test(text)) {
    const number = Number(text);
    const named = Object.entries(constants.signals).find(([, value]) => value === number);
    if (named !== undefined) return canonicalSignal(number);
    return number >= 1 && number <= SIGRTMAX ? String(number) : undefined;
  }
  const name = text.startsWith("SIG") ? text : `SIG${text}`;
  if (Object.hasOwn(constants.signals, name)) return name;
  const realTime = /^SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime === null) return undefined;
  const offset = Number(realTime[3] ?? 0) * (realTime[2] === "-" ? -1 : 1);
  const number = (realTime[1] === "MIN" ? SIGRTMIN : SIGRTMAX) + offset;
  return number >= SIGRTMIN && number <= SIGRTMAX ? String(number) : undefined;
}

/** The usual name of a signal number that has several (SIGABRT rather than SIGIOT). */
function canonicalSignal(number: number): string | undefined {
  const names = Object.entries(constants.signals)
    .filter(([, value]) => value === number)
    .map(([name]) => name);
  return names.find((name) => name !== "SIGIOT" && name !== "SIGPOLL" && name !== "SIGUNUSED") ?? names[0];
}

/** The number of a signal in an exit status of 128 + n. */
export function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal];
}

/** 64 hexadecimal digits, with or without `sha256:` before them. */
export function parseSha256(text: string, flag: string): string {
  const hex = text.replace(/^sha256:/, "").toLowerCase();
  if (/^[0-9a-f]{64}$/.test(hex)) return hex;
  throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a SHA-256 (64 hexadecimal digits)`);
}
