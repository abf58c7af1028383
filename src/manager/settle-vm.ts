import { setTimeout as sleep } from "node:timers/promises";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { destroyVm, killProcesses } from "./destroy-vm.ts";
import { finishVm } from "./finish-vm.ts";
import { isVmmAlive } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** From the guest's word that the workload has ended to its reboot: it syncs its disk in between. */
const REBOOT_TIMEOUT_MS = 15_000;

/** How often to look for the VMM's end, which makes no event that could be waited for. */
const LOOK_INTERVAL_MS = 5;

/**
 * Puts a VM whose workload has ended to rest: removed at once when nobody wants its disk again, otherwise
 * left to end by itself, with its record brought up to date.
 */
export async function settleEndedVm(context: Context, record: VmRecord): Promise<void> {
  if (record.autoRemove) {
    await destroyVm(context, record.id, (current) => current.state === "running");
    return;
  }
  await waitForVmmEnd(context, record, REBOOT_TIMEOUT_MS);
  await finishVm(context, record);
}

/** Waits until the VMM of a record has ended, and kills it when it takes longer than `timeoutMs`. */
export async function waitForVmmEnd(context: Context, record: VmRecord, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (isVmmAlive(record)) {
    if (performance.now() > deadline) {
      await killProcesses(vmPathsOf(context.directories, record.id));
      return;
    }
    await sleep(LOOK_INTERVAL_MS);
  }
}
