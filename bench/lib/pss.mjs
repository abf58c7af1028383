import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Memory of processes, in bytes, from /proc/PID/smaps_rollup. `pss` counts a page that n processes map as an nth of
 * it in each; `file` is what of that are pages of files.
 */
export function memoryOf(pids) {
  const sum = { pss: 0, file: 0 };
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    sum.pss += kibOf(rollup, "Pss") * 1024;
    sum.file += kibOf(rollup, "Pss_File") * 1024;
  }
  return sum;
}

/** memoryOf(), once it stands still: a guest tells of the memory it has freed some seconds later. */
export async function settledMemoryOf(pids, { least = 6, most = 60 } = {}) {
  let before = memoryOf(pids);
  for (let second = 2; second <= most; second += 2) {
    await sleep(2000);
    const now = memoryOf(pids);
    if (second >= least && Math.abs(now.pss - before.pss) < before.pss / 200) return now;
    before = now;
  }
  return before;
}

/** The processes that run the program at `executable`. */
export function processesOf(executable) {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/exe`) === executable;
      } catch {
        return false; // a kernel thread, or one that has just ended
      }
    })
    .map(Number);
}

/** What this machine has in use, pages of files included, in bytes. */
export function usedByMachine() {
  const text = readFileSync("/proc/meminfo", "utf8");
  return (kibOf(text, "MemTotal") - kibOf(text, "MemFree")) * 1024;
}

function kibOf(text, field) {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
}
