import type { GuestClient } from "../../guest/client.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { CopyOptions, CopyReport } from "../api.ts";
import type { Context } from "../context.ts";
import { connectGuest } from "../guest-access.ts";
import { requireState } from "../records.ts";
import { copyFrom } from "./copy-from.ts";
import { copyTo } from "./copy-to.ts";
import { runningFiles } from "./guest-files.ts";
import { withIdleGuest } from "./idle-guest.ts";
import { stoppedFiles } from "./stopped-files.ts";

/**
 * Copies out of a VM.
 * @throws FirectlError FILE_NOT_FOUND, INVALID_ARGUMENT for what docker's rules refuse, and as `writeLocally`.
 */
export async function copyFromVm(
  context: Context,
  record: VmRecord,
  options: CopyOptions & {
    readonly source: string;
    readonly destination: string | ((chunk: Uint8Array) => unknown);
  },
): Promise<CopyReport> {
  requireState(record, "copy from", ["running", "exited", "dead"]);
  if (record.state !== "running") {
    // What is on volumes is not on the VM's own disks: a guest that mounts them all shows it.
    if ((record.mounts ?? []).some(({ type }) => type !== "tmpfs")) {
      const work = (guest: GuestClient) => copyFrom(runningFiles(guest, options.signal), options, options);
      return withIdleGuest(context, record, { signal: options.signal, work });
    }
    using files = stoppedFiles(context, record, options.signal);
    return await copyFrom(files, options, options);
  }
  using guest = connectGuest(record);
  return await copyFrom(runningFiles(guest, options.signal), options, options);
}

/** Copies into a VM; one that does not run is booted for it, without its workload. */
export async function copyToVm(
  context: Context,
  record: VmRecord,
  options: CopyOptions & {
    readonly source: string | AsyncIterable<Uint8Array>;
    readonly destination: string;
  },
): Promise<CopyReport> {
  requireState(record, "copy to", ["running", "exited", "dead"]);
  if (record.state !== "running") {
    const work = (guest: GuestClient) => copyTo(guest, options, { ...options, env: context.env });
    return withIdleGuest(context, record, { signal: options.signal, work });
  }
  using guest = connectGuest(record);
  return await copyTo(guest, options, { ...options, env: context.env });
}
