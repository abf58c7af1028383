import { setTimeout as sleep } from "node:timers/promises";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { destroyVm, killProcesses } from "./destroy-vm.ts";
import { finishVm } from "./finish-vm.ts";
import { isVmmAlive } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** From the guest's word that the workload has ended to its reboot: it syncs its disk in between. */
const REBOOT_TIMEOUT_MS = 15_000;

/** The VMM's end makes no event: it is looked for, ever less often, in milliseconds. */
const FIRST_PAUSE_MS = 4;
const LONGEST_PAUSE_MS = 64;

/**
 * Puts a VM whose workload has ended to rest: removed at once when nobody wants its disk again, otherwise
 * left to end by itself, with its record brought up to date.
 */
export async function settleEndedVm(context: Context, record: VmRecord): Promise<void> {
  if (record.autoRemove) {
    // A `stop --keep` may have asked for the opposite meanwhile, and a `restart` have begun another life.
    const wanted = (current: VmRecord): boolean =>
      current.state === "running" && current.autoRemove && current.startedAt === record.startedAt;
    if (await destroyVm(context, record.id, wanted)) return;
  }
  await waitForVmmEnd(context, record, { timeoutMs: REBOOT_TIMEOUT_MS });
  await finishVm(context, record);
}

/**
 * Waits until the VMM of a record has ended, and kills it when it takes longer than `timeoutMs`. Returns whether it
 * ended by itself.
 */
export async function waitForVmmEnd(
  context: Context,
  record: VmRecord,
  options: { timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  const deadline = performance.now() + options.timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; isVmmAlive(record); pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    if (performance.now() > deadline) {
      await killProcesses(vmPathsOf(context.directories, record.id));
      return false;
    }
    await sleep(pauseMs, undefined, { signal: options.signal });
  }
  return true;
}
