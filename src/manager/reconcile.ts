import { FirectlError } from "../core/errors.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { sweepUnfinishedBases } from "./base-image.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { endVm, finishVm } from "./finish-vm.ts";
import { isVmmAlive, livesNow } from "./records.ts";

const SWEEP_LOCK_TIMEOUT_MS = 50;

/** What a record needs, judged from the processes that really run. */
type Mending =
  /** Nothing: it is true, or a living firectl works on it. */
  | "none"
  /** Its VMM has ended: the record must say how. */
  | "finish"
  /** Its firectl was killed while it started or attended it again: it must end, its disk stays. */
  | "end"
  /** Its firectl was killed while making, removing or attending it: nothing of it may stay. */
  | "destroy";

/** What must be done about one record. */
export function mendingOf(record: VmRecord): Mending {
  const ownerLives = livesNow(record, record.owner);
  const withoutOwner = record.restarted ? "end" : "destroy";
  switch (record.state) {
    case "removing":
      return ownerLives ? "none" : "destroy";
    case "creating":
      return ownerLives ? "none" : withoutOwner;
    case "running":
      if (record.attached && !ownerLives) return withoutOwner;
      return isVmmAlive(record) ? "none" : "finish";
    case "exited":
    case "dead":
      return "none";
  }
}

/**
 * Makes the records true: every command begins with it. Returns the records as they stand afterwards.
 * Costs one read of `vms.json` and of /proc when there is nothing to mend.
 */
export async function reconcile(context: Context): Promise<readonly VmRecord[]> {
  const records = await context.vms.read();
  const stale = records.filter((record) => mendingOf(record) !== "none");
  if (stale.length === 0) return records;
  for (const record of stale) await mend(context, record);
  // A killed builder leaves more than its VM's own files.
  if (stale.some(({ state }) => state === "creating")) await sweep(context);
  return context.vms.read();
}

async function mend(context: Context, record: VmRecord): Promise<void> {
  // Judged again under the lock: somebody may have mended it, or it may have come to life, meanwhile.
  switch (mendingOf(record)) {
    case "none":
      return;
    case "finish":
      await finishVm(context, record);
      return;
    case "end":
      await endVm(context, record);
      return;
    case "destroy":
      await destroyVm(context, record.id, (current) => mendingOf(current) === "destroy");
      return;
  }
}

async function sweep(context: Context): Promise<void> {
  await sweepUnfinishedBases(context);
  const { removeStaleProbe } = await import("../firecracker/probe.ts");
  await removeStaleProbe(context.directories.runtime);
  await collectImageGarbage(context);
}

async function collectImageGarbage(context: Context): Promise<void> {
  const images = await context.images();
  // Whoever pulls at this moment may use what looks left over: the next mending finds it then.
  await images.collectGarbage({ timeoutMs: SWEEP_LOCK_TIMEOUT_MS }).catch((error: unknown) => {
    if (!(error instanceof FirectlError && error.code === "LOCK_TIMEOUT")) throw error;
  });
}
