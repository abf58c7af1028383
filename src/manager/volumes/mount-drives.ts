import type { MessageInitShape } from "@bufbuild/protobuf";
import { FirectlError } from "../../core/errors.ts";
import type { MountSchema } from "../../guest/gen/firectl/agent/v1/control_pb.ts";
import type { MountRecord, VolumeMountRecord } from "../../state/mount-record.ts";
import type { ShareRecord } from "../../state/share-record.ts";
import { guestDeviceName } from "../../vmm/device-names.ts";
import type { Drive } from "../../vmm/vmm.ts";
import { sharePort, sharesIn } from "../shares/share-processes.ts";
import type { VmPaths } from "../vm-paths.ts";
import type { VolumeStore } from "./volume-store.ts";

type MountInit = MessageInitShape<typeof MountSchema>;

const SNAPSHOTS = "snapshots";

/**
 * virtio-mmio devices that a Firecracker guest can have on x86 (interrupts 5 to 23 less two), without those that
 * are no volumes: root, upper, control drive, vsock, network, balloon, entropy.
 */
const MAX_DRIVES = 17 - 7;

/**
 * The disks of a VM's volumes and snapshots, in the order of the mounts.
 * @throws FirectlError INVALID_ARGUMENT when they are more than a VM can have.
 */
export function mountDrives(
  mounts: readonly MountRecord[],
  options: { store: VolumeStore; paths: Pick<VmPaths, "snapshots"> },
): Drive[] {
  const { store, paths } = options;
  const drives: Drive[] = volumesIn(mounts).map(({ name, exclusive }, index) => ({
    id: volumeDriveId(index),
    path: store.diskPath(name),
    readOnly: !exclusive,
    cache: "writeback",
  }));
  if (mounts.some(({ type }) => type === "snapshot")) {
    drives.push({ id: SNAPSHOTS, path: paths.snapshots, readOnly: true, cache: "unsafe" });
  }
  if (drives.length > MAX_DRIVES) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `${drives.length} disks for volumes and snapshots: a VM can have ${MAX_DRIVES}`,
      { hint: "put several directories into one volume; all snapshots of host directories are one disk" },
    );
  }
  return drives;
}

/** A machine with the disks of its volumes and snapshots as they are to be attached this time. */
export function withMountDrives<T extends { readonly drives: readonly Drive[] }>(
  machine: T,
  drives: readonly Drive[],
): T {
  const others = machine.drives.filter(({ id }) => id !== SNAPSHOTS && !/^volume\d+$/.test(id));
  return { ...machine, drives: [...others, ...drives] };
}

/** The guest's orders for the mounts; `fills` is whether volumes may be filled from the image. */
export function guestMounts(
  mounts: readonly MountRecord[],
  options: { drives: readonly Drive[]; fills: boolean },
): MountInit[] {
  const names = volumesIn(mounts).map(({ name }) => name);
  const shares = sharesIn(mounts);
  return mounts.map((mount) => {
    const { destination } = mount;
    const readOnly = mount.type === "snapshot" || mount.readOnly;
    return { destination, readOnly, ...sourceOf(mount, { ...options, names, shares }) };
  });
}

function sourceOf(
  mount: MountRecord,
  options: {
    drives: readonly Drive[];
    fills: boolean;
    names: readonly string[];
    shares: readonly ShareRecord[];
  },
): Pick<MountInit, "volume" | "snapshot" | "tmpfs" | "share"> {
  const { drives } = options;
  switch (mount.type) {
    case "volume": {
      const device = guestDeviceName(drives, volumeDriveId(options.names.indexOf(mount.name)));
      return { volume: { device, fill: options.fills && mount.copy && mount.exclusive } };
    }
    case "snapshot":
      return { snapshot: { device: guestDeviceName(drives, SNAPSHOTS), entry: mount.entry } };
    case "tmpfs":
      return { tmpfs: { options: mount.options } };
    case "share":
      return { share: { port: sharePort(options.shares.indexOf(mount)) } };
  }
}

/** Each volume once. */
function volumesIn(mounts: readonly MountRecord[]): readonly VolumeMountRecord[] {
  const found = new Map<string, VolumeMountRecord>();
  for (const mount of mounts) {
    if (mount.type === "volume" && !found.has(mount.name)) found.set(mount.name, mount);
  }
  return [...found.values()];
}

function volumeDriveId(index: number): string {
  return `volume${index}`;
}
