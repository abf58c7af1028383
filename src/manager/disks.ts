import { open } from "node:fs/promises";
import path from "node:path";
import { createControlDrive, renewControlDrive } from "../guest/control-drive.ts";
import { OutputReader } from "../guest/output-reader.ts";
import { makePrivateDirectory } from "../host/files.ts";
import { cloneFile } from "../rootfs/clone-disk.ts";
import type { MountRecord } from "../state/mount-record.ts";
import type { NetworkRecord } from "../state/network-record.ts";
import type { WorkloadRecord } from "../state/vm-record.ts";
import { guestDeviceName } from "../vmm/device-names.ts";
import type { Drive, DriveDevice, MachineConfiguration, NetworkDevice } from "../vmm/vmm.ts";
import type { StorageMode } from "./api.ts";
import { makeBlankDisk } from "./blank-disks.ts";
import type { GuestStart } from "./session.ts";
import type { VmSize } from "./vm-options.ts";
import type { VmPaths } from "./vm-paths.ts";
import { specFor } from "./vm-spec.ts";

/** Vsock addresses are per VMM: every guest may have the same. 0 to 2 are reserved, vsock(7). */
const GUEST_CID = 3;

/** The VM's own writable disk: the overlay's upper directory, or a copy of the whole root filesystem. */
export async function makeWritableDisk(options: {
  paths: VmPaths;
  basePath: string;
  storage: StorageMode;
  diskBytes: number;
  /** Where templates of disks are kept. */
  dataDirectory: string;
}): Promise<void> {
  await makePrivateDirectory(path.dirname(options.paths.rootfs));
  if (options.storage === "copy") {
    await cloneFile(options.basePath, options.paths.rootfs);
    return;
  }
  await makeBlankDisk({
    path: options.paths.rootfs,
    sizeBytes: options.diskBytes,
    dataDirectory: options.dataDirectory,
  });
}

/** The drive that tells the guest what to do. */
export async function makeControlDrive(options: {
  paths: VmPaths;
  id: string;
  workload: WorkloadRecord;
  drives: readonly Drive[];
  mounts: readonly MountRecord[];
  network: NetworkRecord | undefined;
  /** Bytes of output to keep; 16 MiB when undefined. */
  logBytes?: number | undefined;
  start: GuestStart;
}): Promise<void> {
  await makePrivateDirectory(options.paths.directory);
  await createControlDrive(options.paths.controlDrive, {
    outputBytes: options.logBytes,
    spec: specFor({ ...options, isFirst: true }),
  });
}

/**
 * Tells a VM that is to start again what to do; its earlier output stays.
 * Returns where on the drive the new output will begin.
 */
export async function renewOrders(options: {
  paths: VmPaths;
  id: string;
  workload: WorkloadRecord;
  drives: readonly Drive[];
  mounts: readonly MountRecord[];
  network: NetworkRecord | undefined;
  start: GuestStart;
}): Promise<number> {
  await renewControlDrive(options.paths.controlDrive, specFor({ ...options, isFirst: false }));
  await using drive = await open(options.paths.controlDrive, "r");
  const reader = new OutputReader(drive);
  for await (const _ of reader.available());
  return reader.position;
}

/** The microVM around the disks. */
export function machineFor(options: {
  paths: VmPaths;
  basePath: string;
  storage: StorageMode;
  imageDevice: DriveDevice;
  size: VmSize;
  kernelPath: string;
  initrdPath: string;
  kernelArguments: readonly string[];
  /** Of volumes and snapshots. */
  mountDrives: readonly Drive[];
  network: NetworkDevice | undefined;
  bootSnapshot?: MachineConfiguration["bootSnapshot"];
}): MachineConfiguration {
  const { paths } = options;
  const root: Drive[] =
    options.storage === "copy"
      ? [{ id: "rootfs", path: paths.rootfs, readOnly: false, cache: "writeback" }]
      : [
          {
            id: "rootfs",
            path: options.basePath,
            device: options.imageDevice,
            readOnly: true,
            cache: "unsafe",
          },
          { id: "upper", path: paths.rootfs, readOnly: false, cache: "writeback" },
        ];
  // What the guest says must reach the host's page cache, not its disk: the drive outlives the VM, not the host.
  const control: Drive = { id: "control", path: paths.controlDrive, readOnly: false, cache: "unsafe" };
  const drives = [...root, control, ...options.mountDrives];
  return {
    vcpuCount: Math.ceil(options.size.cpus),
    memoryMib: options.size.memoryMib,
    bootSource: {
      kernelImagePath: options.kernelPath,
      initrdPath: options.initrdPath,
      kernelArguments: [`firectl.control=${guestDeviceName(drives, control.id)}`, ...options.kernelArguments],
    },
    drives,
    vsock: { guestCid: GUEST_CID, socketPath: paths.vsockSocket },
    ...(options.network === undefined ? {} : { network: options.network }),
    ...(options.bootSnapshot === undefined ? {} : { bootSnapshot: options.bootSnapshot }),
  };
}
