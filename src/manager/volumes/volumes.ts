import { FirectlError } from "../../core/errors.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { CreateVolumeOptions, PruneVolumesOptions, PruneVolumesReport, VolumeSummary } from "../api.ts";
import type { Context } from "../context.ts";
import { diskFile } from "../disk-file.ts";
import { unrecordedVms } from "../image-usage.ts";
import { removalOf } from "../records.ts";
import { anonymousVolumeName, checkVolumeName } from "./volume-names.ts";
import { checkVolumeSize, DEFAULT_VOLUME_BYTES } from "./volume-size.ts";
import { ANONYMOUS_LABEL, type StoredVolume, VolumeStore } from "./volume-store.ts";
import { usersOfVolume } from "./volume-use.ts";

/**
 * Makes a volume; one of that name that is there already stays as it is, as in Docker.
 * @throws FirectlError INVALID_ARGUMENT, NO_SPACE.
 */
export async function createVolume(
  context: Context,
  records: readonly VmRecord[],
  options: CreateVolumeOptions,
): Promise<VolumeSummary> {
  const isAnonymous = options.name === undefined || options.name === "";
  const name = isAnonymous ? anonymousVolumeName() : (options.name ?? "");
  checkVolumeName(name);
  const sizeBytes = options.sizeBytes ?? DEFAULT_VOLUME_BYTES;
  checkVolumeSize(sizeBytes);
  const store = new VolumeStore(context.directories.data);
  const { volume } = await store.create({
    name,
    createdAt: new Date().toISOString(),
    labels: { ...options.labels, ...(isAnonymous ? { [ANONYMOUS_LABEL]: "" } : {}) },
    sizeBytes,
    options: { ...options.options },
  });
  return summaryOf(store, volume, records);
}

/** All volumes, by name. */
export async function listVolumes(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly VolumeSummary[]> {
  const store = new VolumeStore(context.directories.data);
  await store.sweep();
  const volumes = await store.list();
  return Promise.all(volumes.map((volume) => summaryOf(store, volume, records)));
}

/** @throws FirectlError VOLUME_NOT_FOUND. */
export async function getVolume(
  context: Context,
  records: readonly VmRecord[],
  name: string,
): Promise<VolumeSummary> {
  const store = new VolumeStore(context.directories.data);
  return summaryOf(store, await store.get(name), records);
}

/**
 * Removes a volume that no VM has.
 * @throws FirectlError VOLUME_NOT_FOUND, VOLUME_IN_USE naming the VMs.
 */
export async function removeVolume(context: Context, name: string): Promise<void> {
  const store = new VolumeStore(context.directories.data);
  await context.vms.hold(async (records) => {
    await store.get(name);
    const users = usersOfVolume(name, records);
    if (users.length > 0) {
      const names = users.map((record) => record.name).join(", ");
      throw new FirectlError("VOLUME_IN_USE", `the volume "${name}" is in use by ${names}`, {
        hint: `remove what uses it first: ${removalOf(users)}`,
      });
    }
    await store.remove(name);
  });
}

/** Removes volumes that no VM has: the anonymous ones, with `all` those with a name, too. */
export async function pruneVolumes(
  context: Context,
  options: PruneVolumesOptions,
): Promise<PruneVolumesReport> {
  const store = new VolumeStore(context.directories.data);
  await store.sweep();
  return context.vms.hold(async (records) => {
    const strangers = await unrecordedVms(context, records);
    if (strangers.length > 0) {
      const reason = `volumes stay: ${context.directories.data}/rootfs has disks of VMs that are not on record (${strangers.join(", ")})`;
      return { volumes: [], reclaimedBytes: 0, postponed: [reason] };
    }
    const removed: VolumeSummary[] = [];
    let reclaimedBytes = 0;
    for (const volume of await store.list()) {
      const summary = await summaryOf(store, volume, records);
      const isWanted = summary.usedBy.length > 0 || !(options.all === true || summary.isAnonymous);
      if (isWanted || options.filter?.(summary) === false) continue;
      if (!(await store.remove(volume.name))) continue;
      removed.push(summary);
      reclaimedBytes += summary.diskBytes;
    }
    return { volumes: removed, reclaimedBytes, postponed: [] };
  });
}

async function summaryOf(
  store: VolumeStore,
  volume: StoredVolume,
  records: readonly VmRecord[],
): Promise<VolumeSummary> {
  const { name, createdAt, labels, sizeBytes, options } = volume;
  const path = store.diskPath(name);
  return {
    name,
    createdAt,
    labels,
    options,
    sizeBytes,
    path,
    isAnonymous: Object.hasOwn(labels, ANONYMOUS_LABEL),
    diskBytes: (await diskFile(path))?.diskBytes ?? 0,
    usedBy: usersOfVolume(name, records).map((record) => record.name),
  };
}
