import path from "node:path";
import type { WorkloadRecord } from "../state/vm-record.ts";
import type { RunOptions, TerminalSize } from "./api.ts";

/** SIGRTMIN+3, on which systemd halts: https://www.freedesktop.org/software/systemd/man/latest/systemd.html#Signals */
export const SYSTEMD_STOP_SIGNAL = 37;

/** The command lines by which Podman knows systemd, too: podman-run(1), `--systemd`. */
const INIT_PROGRAMS: ReadonlySet<string> = new Set(["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"]);

/** What one start of a VM adds to what is on record of its workload. */
export interface GuestStart {
  /** The process that starts it takes its output from the beginning. */
  readonly attached: boolean;
  readonly terminalSize: TerminalSize | undefined;
}

/** How the workload's streams are attended to, and what stands before it. */
export function sessionOf(
  args: readonly string[],
  run: Pick<RunOptions, "tty" | "openStdin" | "detach" | "init">,
): NonNullable<WorkloadRecord["session"]> {
  const openStdin = run.openStdin ?? false;
  const [program = ""] = args;
  return {
    tty: run.tty ?? false,
    openStdin,
    stdinOnce: openStdin && !(run.detach ?? false),
    init: run.init ?? false,
    systemd: INIT_PROGRAMS.has(program) || path.basename(program) === "systemd",
  };
}

/** Variables as docker sets them for a process: one that has a terminal is told of which kind. */
export function environmentFor(env: readonly string[], options: { tty: boolean }): string[] {
  const isTold = env.some((entry) => entry.startsWith("TERM="));
  return options.tty && !isTold ? ["TERM=xterm", ...env] : [...env];
}

/** The fields of a process that say whether it has a terminal. */
export function terminalFor(options: { tty: boolean | undefined; size: TerminalSize | undefined }): {
  terminal: boolean;
  consoleSize?: { height: number; width: number };
} {
  const { tty = false, size } = options;
  return {
    terminal: tty,
    ...(tty && size !== undefined ? { consoleSize: consoleSizeOf(size) } : {}),
  };
}

/** A size in the OCI runtime specification's words. */
export function consoleSizeOf(size: TerminalSize): { height: number; width: number } {
  return { height: size.rows, width: size.columns };
}
