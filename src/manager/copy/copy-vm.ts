import type { VmRecord } from "../../state/vm-record.ts";
import type { CopyOptions, CopyReport } from "../api.ts";
import type { Context } from "../context.ts";
import { connectGuest } from "../guest-access.ts";
import { requireState } from "../records.ts";
import { copyFrom } from "./copy-from.ts";
import { copyTo } from "./copy-to.ts";
import { runningFiles } from "./guest-files.ts";

/**
 * Copies out of a VM.
 * @throws FirectlError FILE_NOT_FOUND, INVALID_ARGUMENT for what docker's rules refuse, and as `writeLocally`.
 */
export async function copyFromVm(
  _context: Context,
  record: VmRecord,
  options: CopyOptions & {
    readonly source: string;
    readonly destination: string | ((chunk: Uint8Array) => unknown);
  },
): Promise<CopyReport> {
  requireState(record, "copy from", ["running", "exited", "dead"]);
  using guest = connectGuest(record);
  return await copyFrom(runningFiles(guest, options.signal), options, options);
}

/** Copies into a VM. */
export async function copyToVm(
  _context: Context,
  record: VmRecord,
  options: CopyOptions & {
    readonly source: string | AsyncIterable<Uint8Array>;
    readonly destination: string;
  },
): Promise<CopyReport> {
  requireState(record, "copy to", ["running", "exited", "dead"]);
  using guest = connectGuest(record);
  return await copyTo(guest, options, options);
}
