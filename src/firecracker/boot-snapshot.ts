import { existsSync, rmSync, statSync, utimesSync } from "node:fs";
import path from "node:path";
import { errnoOf } from "../core/errors.ts";
import { sha256Hex } from "../core/sha256.ts";
import { ioError } from "../host/files.ts";
import type { Drive, MachineConfiguration } from "../vmm/vmm.ts";
import type { ConfigurationCall } from "./api/types.ts";

/** The vsock port of the host on which a guest says that it is ready for its snapshot. */
export const SNAPSHOT_PORT = 1025;

/** A snapshot's files: what Firecracker calls the microVM state and the guest memory. */
export const STATE = "state";
export const MEMORY = "memory";

/**
 * A machine whose drives and vsock have the same names in every VM, relative to the runtime directory: a snapshot
 * holds these names, and another VM's Firecracker opens what stands under them there.
 */
export function withLocalNames(machine: MachineConfiguration): MachineConfiguration {
  return {
    ...machine,
    bootSource: {
      ...machine.bootSource,
      kernelArguments: [...machine.bootSource.kernelArguments, `firectl.snapshot=${SNAPSHOT_PORT}`],
    },
    drives: machine.drives.map((drive) => ({ ...drive, path: localName(drive) })),
    vsock: { ...machine.vsock, socketPath: path.basename(machine.vsock.socketPath) },
  };
}

/** The link to a drive's file in the runtime directory. */
export function localName(drive: Drive): string {
  return `drive-${drive.id}`;
}

/** Where Firecracker looks for who listens on the host's side of a vsock port. */
export function snapshotSocketOf(machine: MachineConfiguration): string {
  return `${machine.vsock.socketPath}_${SNAPSHOT_PORT}`;
}

/**
 * The snapshot that VMs of one kind go on from: same host since its boot, same Firecracker, kernel, initramfs and
 * machine, drives of the same sizes, and the same image where that is memory of the guest's.
 */
export class BootSnapshot {
  readonly directory: string;
  /** Where this boot of the host keeps them. */
  readonly root: string;

  /**
   * @throws FirectlError FILE_NOT_FOUND, IO_FAILED when a part of the machine cannot be looked at.
   */
  constructor(
    root: string,
    parts: {
      readonly executable: string;
      readonly machine: MachineConfiguration;
      readonly calls: readonly ConfigurationCall[];
    },
  ) {
    const { machine, calls } = parts;
    const image = machine.drives.find(({ id }) => id === "rootfs");
    const key = JSON.stringify({
      files: [parts.executable, machine.bootSource.kernelImagePath, machine.bootSource.initrdPath].map(
        identityOf,
      ),
      calls,
      // A guest's kernel learns a drive's size once.
      drives: machine.drives.map((drive) =>
        drive.device === "pmem" ? identityOf(drive.path) : lookAt(drive.path).size,
      ),
    });
    const group = image?.readOnly === true ? path.basename(image.path) : "copies";
    this.root = root;
    this.directory = path.join(root, group, sha256Hex(key).slice(0, 32));
  }

  get #state(): string {
    return path.join(this.directory, STATE);
  }

  /** Whether there is one. */
  exists(): boolean {
    return existsSync(this.#state);
  }

  /** What lets a Firecracker of which nothing but the serial port has been configured go on from it. */
  loadCall(): ConfigurationCall {
    this.#noteUse();
    return {
      path: "/snapshot/load",
      body: {
        snapshot_path: this.#state,
        mem_backend: { backend_type: "File", backend_path: path.join(this.directory, MEMORY) },
        resume_vm: true,
      },
    };
  }

  /** The one whose time is the oldest goes first. */
  #noteUse(): void {
    const now = new Date();
    try {
      utimesSync(this.#state, now, now);
    } catch (error) {
      // Another firectl has just removed it, which the load will tell.
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot touch ${this.#state}`, error);
    }
  }

  /** Whether one may be made: not where it has turned out to be of no use. */
  mayBeTaken(): boolean {
    return !existsSync(this.directory);
  }

  /** Removes its files, and takes care that it is not made again; VMs that go on from it keep what they have mapped. */
  discard(): void {
    for (const name of [STATE, MEMORY]) rmSync(path.join(this.directory, name), { force: true });
  }
}

/** A file and whether it is still the same one. */
function identityOf(file: string): string {
  const { ino, size, mtimeMs } = lookAt(file);
  return [file, ino, size, mtimeMs].join(":");
}

function lookAt(file: string): { readonly ino: number; readonly size: number; readonly mtimeMs: number } {
  try {
    return statSync(file);
  } catch (error) {
    throw ioError(`cannot look at ${file}`, error);
  }
}
