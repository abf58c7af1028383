import { rm } from "node:fs/promises";
import { mark } from "../core/trace.ts";
import { pollUntil } from "../host/deadline.ts";
import { ioError } from "../host/files.ts";
import { killSupervised } from "../host/supervise.ts";
import type { VolumeMountRecord } from "../state/mount-record.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { claimForRemoval, dropRecord } from "./records.ts";
import { type VmPaths, vmPathsOf } from "./vm-paths.ts";

/** Another firectl may itself wait for the kernel to free the memory of a killed VMM. */
const REMOVAL_TIMEOUT_MS = 40_000;

/** Kills the VMM and everything that was started beside it, and waits until they are gone. */
async function killRecorded(paths: VmPaths, record: VmRecord): Promise<void> {
  // A VM was put on record as running when the last of its processes had been noted.
  await killSupervised(paths.runtimeDirectory, { allNoted: record.process !== null });
}

/** The same when it is not known how far its start has got. */
export async function killProcesses(paths: VmPaths): Promise<void> {
  await killSupervised(paths.runtimeDirectory);
}

/** Removes every file of a VM whose processes are gone. */
async function removeFiles(paths: VmPaths, configSockets: readonly string[]): Promise<void> {
  try {
    await Promise.all([
      ...configSockets.map((file) => rm(file, { force: true })),
      rm(paths.runtimeDirectory, { recursive: true, force: true }),
      rm(paths.directory, { recursive: true, force: true }),
      rm(paths.rootfs, { force: true }),
    ]);
  } catch (error) {
    throw ioError(`cannot remove the files of VM ${paths.directory}`, error);
  }
}

/**
 * Ends and removes a VM: processes, files, record, in this order, so that whoever is killed in between leaves
 * a record from which the next command goes on. Its anonymous volumes go with it unless they are to be kept.
 * Returns whether it was this call that removed it.
 */
export async function destroyVm(
  context: Context,
  id: string,
  when?: (record: VmRecord) => boolean,
  options: { keepVolumes?: boolean } = {},
): Promise<boolean> {
  const claim = await claimForRemoval(context.vms, id, when, options);
  if (claim === "gone") return false;
  if ("heldBy" in claim) {
    await waitUntilGone(context, id);
    return false;
  }
  mark("claimed");
  const paths = vmPathsOf(context.directories, id);
  await writeOutVolumes(context, claim.record);
  await killRecorded(paths, claim.record);
  mark("killed");
  await removeFiles(paths, claim.record.configSockets);
  mark("files removed");
  if (claim.record.keepVolumes !== true && hasVolume(claim.record, ({ anonymous }) => anonymous)) {
    const { dropAnonymousVolumes } = await import("./volumes/drop-volumes.ts");
    await dropAnonymousVolumes(context, claim.record);
  }
  await dropRecord(context.vms, id);
  mark("record dropped");
  return true;
}

/** What a guest has written to a volume is not lost when its VM is killed. */
export async function writeOutVolumes(context: Context, record: VmRecord): Promise<void> {
  if (!hasVolume(record, ({ exclusive }) => exclusive)) return;
  const { sealVolumes } = await import("./volumes/seal-volumes.ts");
  await sealVolumes(context, record);
}

function hasVolume(record: VmRecord, which: (mount: VolumeMountRecord) => boolean): boolean {
  return (record.mounts ?? []).some((mount) => mount.type === "volume" && which(mount));
}

async function waitUntilGone(context: Context, id: string): Promise<void> {
  await pollUntil(
    { timeoutMs: REMOVAL_TIMEOUT_MS, intervalMs: 20, waitingFor: `another firectl to remove VM ${id}` },
    async () => ((await context.vms.read()).some((record) => record.id === id) ? undefined : true),
  );
}
