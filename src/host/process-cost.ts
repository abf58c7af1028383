import { readFileSync } from "node:fs";

/** What a process has taken of the host. */
export interface ProcessCost {
  /** Processor time of all its threads since its start, in milliseconds. */
  readonly cpuMs: number;
  /** Memory, where what it shares with others counts in parts (PSS) if the kernel tells, else in full (RSS). */
  readonly memoryBytes: number;
}

/** USER_HZ, in which /proc counts on every architecture that firectl runs on. */
const TICKS_PER_SECOND = 100;

/** The cost of a living process, proc_pid_stat(5) and proc_pid_smaps(5); undefined when there is none. */
export function costOfProcess(pid: number): ProcessCost | undefined {
  try {
    const cpuMs = parseCpuMs(readFileSync(`/proc/${pid}/stat`, "latin1"));
    return cpuMs === undefined ? undefined : { cpuMs, memoryBytes: memoryOf(pid) };
  } catch {
    return undefined;
  }
}

/** Fields 14 and 15; the name in field 2 may hold spaces and parentheses. */
export function parseCpuMs(text: string): number | undefined {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isSafeInteger(ticks) ? (ticks * 1000) / TICKS_PER_SECOND : undefined;
}

function memoryOf(pid: number): number {
  try {
    const pss = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"))?.[1];
    if (pss !== undefined) return Number(pss) * 1024;
  } catch {
    // It takes a right that others than its owner may lack.
  }
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return Number(resident ?? 0) * 1024;
}
