import { readFileSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";

/**
 * A process that cannot be mistaken for another: process ids are used again, a pid with its start time is
 * not (within one boot of the host).
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot; proc(5). */
  readonly startTime: number;
}

/** Identity of the living process `pid`, or undefined when there is none (a zombie counts as none). */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const fields = statFields(pid);
  if (fields === undefined || fields.state === "Z" || fields.state === "X") return undefined;
  return { pid, startTime: fields.startTime };
}

/** Whether exactly that process still lives. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTime === identity.startTime;
}

/** Sends `signal` if exactly that process still lives; returns whether it did. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw new FirectlError("PERMISSION_DENIED", `cannot send ${signal} to process ${identity.pid}`, {
      cause: error,
    });
  }
}

/** Identity of this process. */
export function ownIdentity(): ProcessIdentity {
  const identity = identifyProcess(process.pid);
  if (identity === undefined)
    throw new FirectlError("HOST_UNSUPPORTED", "/proc is not mounted: firectl needs it");
  return identity;
}

function statFields(pid: number): ProcessStat | undefined {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return undefined;
  }
}

/** What firectl reads of /proc/PID/stat, proc(5). */
export interface ProcessStat extends ProcessIdentity {
  /** One letter: R running, S sleeping, Z zombie, … */
  readonly state: string;
}

/** Reads the text of /proc/PID/stat; undefined when it is not that. */
export function parseProcessStat(text: string): ProcessStat | undefined {
  // The command name in field 2 may hold spaces and parentheses: count from the last ")".
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [pid, state, startTime] = [Number.parseInt(text, 10), fields[0], Number(fields[19])];
  if (state === undefined || !Number.isSafeInteger(startTime) || !Number.isSafeInteger(pid)) return undefined;
  return { pid, state, startTime };
}
