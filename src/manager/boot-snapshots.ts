import { rm } from "node:fs/promises";
import path from "node:path";
import { hostBootId } from "./records.ts";

/** Where the snapshots are that guests go on from instead of booting, by the boots of the host that they are of. */
export function bootSnapshotsDirectory(dataDirectory: string): string {
  return path.join(dataDirectory, "boot-snapshots");
}

/** Those that can be gone on from: a directory for each image's filesystem, and one in it for each kind of VM. */
export function currentBootSnapshots(dataDirectory: string): string {
  return path.join(bootSnapshotsDirectory(dataDirectory), hostBootId());
}

/** Removes the snapshots of a filesystem that is no more. */
export async function removeBootSnapshots(dataDirectory: string, basePath: string): Promise<void> {
  const directory = path.join(currentBootSnapshots(dataDirectory), path.basename(basePath));
  await rm(directory, { recursive: true, force: true });
}
