import { FirectlError } from "../../core/errors.ts";
import type { MountRecord, VolumeMountRecord } from "../../state/mount-record.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import type { MountOptions, VolumeMountOptions } from "../api.ts";
import type { Context } from "../context.ts";
import { findByReference } from "../vm-names.ts";
import { bindMount } from "./bind-source.ts";
import { cleanDestination, inMountOrder } from "./mount-destination.ts";
import { sharedMemory, tmpfsOptions } from "./tmpfs-options.ts";
import { isEmptyVolume, needsRecovery } from "./volume-disk.ts";
import { anonymousVolumeName, checkVolumeName } from "./volume-names.ts";
import { checkVolumeSize } from "./volume-size.ts";
import { VolumeStore } from "./volume-store.ts";
import { refuseConflicts, volumeMountsOf } from "./volume-use.ts";

/** What a VM is to have mounted, and what its new volumes are to be. */
export interface MountPlan {
  readonly mounts: readonly MountRecord[];
  /** By the volume's name. */
  readonly volumes: ReadonlyMap<string, Pick<VolumeMountOptions, "labels" | "sizeBytes">>;
}

export interface PlanOptions {
  readonly mounts?: readonly MountOptions[] | undefined;
  /** VMs whose mounts this one has too. */
  readonly volumesFrom?: readonly { readonly vm: string; readonly readOnly?: boolean }[] | undefined;
  readonly shmBytes?: number | undefined;
}

/**
 * Plans what the user asked for and puts it on record: from here on the volumes are in use.
 * @throws FirectlError INVALID_ARGUMENT, FILE_NOT_FOUND, UNSUPPORTED, VOLUME_IN_USE.
 */
export async function planMounts(
  context: Context,
  record: VmRecord,
  options: PlanOptions,
): Promise<MountPlan> {
  const mounts: MountRecord[] = [];
  const volumes = new Map<string, Pick<VolumeMountOptions, "labels" | "sizeBytes">>();
  for (const option of options.mounts ?? []) {
    const destination = cleanDestination(option.destination);
    const mount = await mountFor({ ...option, destination }, String(mounts.length));
    if (mounts.some((each) => each.destination === destination)) {
      throw new FirectlError("INVALID_ARGUMENT", `two mounts at ${destination}: it can have one`);
    }
    mounts.push(mount);
    if (mount.type === "volume" && option.type === "volume") volumes.set(mount.name, option);
  }
  const inherited = await inheritedMounts(context, options.volumesFrom ?? []);
  // What the user says of a mount point counts, as in Docker.
  mounts.push(
    ...inherited.filter((theirs) => !mounts.some((ours) => ours.destination === theirs.destination)),
  );
  if (options.shmBytes !== undefined && !mounts.some(({ destination }) => destination === "/dev/shm")) {
    mounts.push(sharedMemory(options.shmBytes));
  }
  if (mounts.length === 0) return { mounts, volumes };
  return { mounts: await claimMounts(context, record.id, renumbered(mounts)), volumes };
}

/**
 * Puts a VM's mounts on record. Whether it has its volumes' disks for writing is decided here, once for all
 * mounts of a volume.
 */
export async function claimMounts(
  context: Context,
  id: string,
  mounts: readonly MountRecord[],
): Promise<readonly MountRecord[]> {
  const store = new VolumeStore(context.directories.data);
  const decided = await Promise.all(
    mounts.map(async (mount) =>
      mount.type === "volume" ? { ...mount, exclusive: await isExclusive(store, mount, mounts) } : mount,
    ),
  );
  const ordered = inMountOrder(decided);
  await context.vms.update((records) => {
    refuseConflicts(ordered, { own: id, records });
    const changed = records.map((record) => (record.id === id ? { ...record, mounts: ordered } : record));
    return { records: changed, result: undefined };
  });
  return ordered;
}

/** The anonymous volumes that the image asks for, where nothing else is mounted. */
export function imageVolumeMounts(
  imageVolumes: readonly string[],
  mounts: readonly MountRecord[],
): readonly VolumeMountRecord[] {
  const destinations = new Set(
    imageVolumes.map((path) => cleanDestination(path.startsWith("/") ? path : `/${path}`)),
  );
  for (const { destination } of mounts) destinations.delete(destination);
  return [...destinations].map((destination) => volumeMount({ destination }));
}

async function mountFor(option: MountOptions, entry: string): Promise<MountRecord> {
  switch (option.type) {
    case "volume":
      if (option.name !== undefined) checkVolumeName(option.name);
      if (option.sizeBytes !== undefined) checkVolumeSize(option.sizeBytes);
      return volumeMount(option);
    case "bind":
      return bindMount(option, entry);
    case "tmpfs":
      return {
        type: "tmpfs",
        destination: option.destination,
        readOnly: option.readOnly ?? false,
        options: tmpfsOptions(option.options ?? []),
      };
  }
}

function volumeMount(option: Omit<VolumeMountOptions, "type">): VolumeMountRecord {
  return {
    type: "volume",
    name: option.name ?? anonymousVolumeName(),
    destination: option.destination,
    readOnly: option.readOnly ?? false,
    copy: option.copy ?? true,
    exclusive: true,
    anonymous: option.name === undefined,
  };
}

async function isExclusive(
  store: VolumeStore,
  { name }: VolumeMountRecord,
  mounts: readonly MountRecord[],
): Promise<boolean> {
  const uses = volumeMountsOf({ mounts: [...mounts] }).filter((mount) => mount.name === name);
  if (uses.some(({ readOnly }) => !readOnly)) return true;
  const fills = uses.some(({ copy }) => copy);
  if ((await store.find(name)) === undefined) return fills;
  const disk = store.diskPath(name);
  return needsRecovery(disk) || (fills && isEmptyVolume(disk));
}

async function inheritedMounts(
  context: Context,
  from: readonly { readonly vm: string; readonly readOnly?: boolean }[],
): Promise<readonly MountRecord[]> {
  if (from.length === 0) return [];
  const records = await context.vms.read();
  const inherited = new Map<string, MountRecord>();
  for (const { vm, readOnly } of from) {
    for (const mount of findByReference(records, vm).mounts ?? []) {
      if (mount.type === "tmpfs") continue;
      inherited.set(
        mount.destination,
        mount.type === "volume"
          ? { ...mount, readOnly: mount.readOnly || readOnly === true, anonymous: false }
          : mount,
      );
    }
  }
  return [...inherited.values()];
}

/** Snapshots get names of this VM's own. */
function renumbered(mounts: readonly MountRecord[]): readonly MountRecord[] {
  return mounts.map((mount, index) =>
    mount.type === "snapshot" ? { ...mount, entry: String(index) } : mount,
  );
}
