import { FirectlError } from "../../core/errors.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";
import { endSeen } from "../exit-report.ts";
import { connectGuest } from "../guest-access.ts";
import { GuestWatch } from "../guest-watch.ts";
import { vmPathsOf } from "../vm-paths.ts";

/** For the guest to write out what its volumes lack; a disk may be slow. */
const SEAL_TIMEOUT_MS = 15_000;
/** A guest that does not answer has nothing that could be asked for. */
const ANSWER_TIMEOUT_MS = 3_000;

/**
 * Before a VM is killed: has the guest kill its workload and write its volumes out, which outlive it. What cannot
 * be had in time is lost, as after a power cut, and the filesystem's journal keeps the rest whole.
 */
export async function sealVolumes(context: Context, record: VmRecord): Promise<void> {
  if (record.process === null) return;
  const { controlDrive } = vmPathsOf(context.directories, record.id);
  try {
    await using watch = await GuestWatch.open(controlDrive, record.process);
    if (endSeen(await watch.look()) !== undefined) return;
    await askToEnd(record);
    await watch.until(endSeen, AbortSignal.timeout(SEAL_TIMEOUT_MS));
  } catch (error) {
    const isTimeout = error instanceof Error && error.name === "TimeoutError";
    if (!(error instanceof FirectlError) && !isTimeout) throw error;
  }
}

/** The connection is closed before the guest closes it, which would be an error of ours. */
async function askToEnd(record: VmRecord): Promise<void> {
  using guest = connectGuest(record);
  await guest.shutdown({ signal: 0, graceMs: 0 }, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
}
