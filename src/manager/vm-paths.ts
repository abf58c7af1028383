import path from "node:path";
import type { Directories } from "../state/directories.ts";

/** Every file that one VM has on the host. */
export interface VmPaths {
  /** Sockets and pid files. */
  readonly runtimeDirectory: string;
  /** Control drive, console, VMM log. */
  readonly directory: string;
  readonly controlDrive: string;
  readonly console: string;
  readonly vmmLog: string;
  /** The disk with the copies of host directories and files. */
  readonly snapshots: string;
  /** The writable disk. */
  readonly rootfs: string;
  readonly vsockSocket: string;
  /** There once the VM belongs to no process any more: `sh` looks for it at the end of an attached one. */
  readonly detachedMark: string;
}

/** The paths of the VM `id`; whether they exist is another matter. */
export function vmPathsOf(directories: Directories, id: string): VmPaths {
  const directory = path.join(directories.data, "vms", id);
  const runtimeDirectory = path.join(directories.runtime, id);
  return {
    runtimeDirectory,
    directory,
    controlDrive: path.join(directory, "control.img"),
    console: path.join(directory, "console.log"),
    vmmLog: path.join(directory, "vmm.log"),
    snapshots: path.join(directory, "snapshots.ext4"),
    rootfs: path.join(directories.data, "rootfs", `${id}.ext4`),
    vsockSocket: path.join(runtimeDirectory, "v.sock"),
    detachedMark: path.join(runtimeDirectory, "detached"),
  };
}
