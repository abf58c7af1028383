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

function statFields(pid: number): { state: string; startTime: number } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The command name in field 2 may hold spaces and parentheses: count from the last ")".
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, startTime] = [fields[0], Number(fields[19])];
  return state === undefined || !Number.isSafeInteger(startTime) ? undefined : { state, startTime };
}
