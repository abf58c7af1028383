import { FirectlError } from "../core/errors.ts";

export const SIGKILL = 9;

/** Linux's signals in the order of their numbers, from 1; x86-64 and arm64 agree. https://man7.org/linux/man-pages/man7/signal.7.html */
const NAMES: readonly string[] = [
  "HUP",
  "INT",
  "QUIT",
  "ILL",
  "TRAP",
  "ABRT",
  "BUS",
  "FPE",
  "KILL",
  "USR1",
  "SEGV",
  "USR2",
  "PIPE",
  "ALRM",
  "TERM",
  "STKFLT",
  "CHLD",
  "CONT",
  "STOP",
  "TSTP",
  "TTIN",
  "TTOU",
  "URG",
  "XCPU",
  "XFSZ",
  "VTALRM",
  "PROF",
  "WINCH",
  "IO",
  "PWR",
  "SYS",
];

/** As in glibc and musl, which keep 32 and 33 for themselves. */
const RTMIN = 34;
const RTMAX = 64;
const ALIASES: Readonly<Record<string, number>> = { IOT: 6, CLD: 17, POLL: 29, RTMIN, RTMAX };
const REAL_TIME = /^RT(MIN\+|MAX-)(\d{1,2})$/;

/**
 * The number of a signal given as `SIGTERM`, `term`, `15` or `RTMIN+3`.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function parseSignal(text: string): number {
  const number = /^\d{1,2}$/.test(text) ? Number(text) : signalNumber(text.toUpperCase().replace(/^SIG/, ""));
  if (number === undefined || number < 1 || number > RTMAX) {
    throw new FirectlError("INVALID_ARGUMENT", `"${text}" is not a signal`, {
      hint: "write a name or a number, for example SIGTERM, TERM, 15 or RTMIN+3",
    });
  }
  return number;
}

function signalNumber(name: string): number | undefined {
  const index = NAMES.indexOf(name);
  if (index >= 0) return index + 1;
  const [, base, offset] = REAL_TIME.exec(name) ?? [];
  if (base === undefined) return ALIASES[name];
  const number = base === "MIN+" ? RTMIN + Number(offset) : RTMAX - Number(offset);
  return number >= RTMIN && number <= RTMAX ? number : undefined;
}

/** The name of a signal, `SIGTERM` for 15; a number that has none is returned as text. */
export function signalName(number: number): string {
  if (number >= RTMIN && number <= RTMAX) return number === RTMIN ? "SIGRTMIN" : `SIGRTMIN+${number - RTMIN}`;
  const name = NAMES[number - 1];
  return name === undefined ? String(number) : `SIG${name}`;
}
