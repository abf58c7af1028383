import { FirectlError } from "../../core/errors.ts";
import type { MountRecord } from "../../state/mount-record.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { Drive } from "../../vmm/vmm.ts";
import type { Context } from "../context.ts";
import { vmPathsOf } from "../vm-paths.ts";
import type { CopyOptions } from "./copy-snapshots.ts";
import { mountDrives } from "./mount-drives.ts";
import { claimMounts, imageVolumeMounts, type MountPlan } from "./mount-plan.ts";
import { DEFAULT_VOLUME_BYTES } from "./volume-size.ts";
import { ANONYMOUS_LABEL, VolumeStore } from "./volume-store.ts";

/** What a VM has mounted, and the disks that it takes. */
export interface PreparedMounts {
  readonly mounts: readonly MountRecord[];
  readonly drives: readonly Drive[];
}

/**
 * Makes what a new VM's mounts need: the volumes that are not there, those of the image among them, and the copies
 * of the host's directories.
 */
export async function prepareMounts(
  context: Context,
  input: { record: VmRecord; plan: MountPlan; imageVolumes: readonly string[]; options: CopyOptions },
): Promise<PreparedMounts> {
  const { record, plan } = input;
  const added = imageVolumeMounts(input.imageVolumes, plan.mounts);
  const mounts =
    added.length === 0 ? plan.mounts : await claimMounts(context, record.id, [...plan.mounts, ...added]);
  const store = new VolumeStore(context.directories.data);
  const paths = vmPathsOf(context.directories, record.id);
  const drives = mountDrives(mounts, { store, paths });
  for (const mount of mounts) {
    if (mount.type !== "volume") continue;
    const { labels = {}, sizeBytes = DEFAULT_VOLUME_BYTES } = plan.volumes.get(mount.name) ?? {};
    await store.create({
      name: mount.name,
      createdAt: new Date().toISOString(),
      labels: { ...labels, ...(mount.anonymous ? { [ANONYMOUS_LABEL]: "" } : {}) },
      sizeBytes,
      options: {},
    });
  }
  if (mounts.some(({ type }) => type === "snapshot")) {
    const { copySnapshots } = await import("./copy-snapshots.ts");
    await copySnapshots(context, { disk: paths.snapshots, mounts }, input.options);
  }
  return { mounts, drives };
}

/**
 * Claims the volumes of a VM that starts again; its snapshots are as they were.
 * @throws FirectlError VOLUME_IN_USE, VOLUME_NOT_FOUND.
 */
export async function reclaimMounts(context: Context, record: VmRecord): Promise<PreparedMounts> {
  const store = new VolumeStore(context.directories.data);
  const kept = (record.mounts ?? []).map((mount) =>
    // Filled when the VM was made; what the workload has emptied since stays so.
    mount.type === "volume" ? { ...mount, copy: false } : mount,
  );
  if (kept.length === 0) return { mounts: kept, drives: [] };
  for (const mount of kept) {
    if (mount.type !== "volume" || (await store.find(mount.name)) !== undefined) continue;
    throw new FirectlError("VOLUME_NOT_FOUND", `the volume "${mount.name}" of ${record.name} is not there`, {
      hint: `make an empty one: firectl volume create ${mount.name}`,
    });
  }
  const mounts = await claimMounts(context, record.id, kept);
  return { mounts, drives: mountDrives(mounts, { store, paths: vmPathsOf(context.directories, record.id) }) };
}
