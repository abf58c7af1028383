import { type FileHandle, open } from "node:fs/promises";
import { readStatus } from "../guest/control-drive.ts";
import { FileChanges } from "../guest/file-changes.ts";
import type { VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { ioError } from "../host/files.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";

/** What can be known of a guest from outside: its own last word, and whether its VMM lives. */
export interface Sighting {
  readonly status: VmStatus | undefined;
  readonly vmmAlive: boolean;
}

/** A guest's control drive, open: readable to the end even when the VM is removed meanwhile. */
export class GuestWatch implements AsyncDisposable {
  readonly drive: FileHandle;
  readonly #vmm: ProcessIdentity;

  private constructor(drive: FileHandle, vmm: ProcessIdentity) {
    this.drive = drive;
    this.#vmm = vmm;
  }

  /** @throws FirectlError FILE_NOT_FOUND, PERMISSION_DENIED, IO_FAILED. */
  static async open(controlDrive: string, vmm: ProcessIdentity): Promise<GuestWatch> {
    try {
      return new GuestWatch(await open(controlDrive, "r"), vmm);
    } catch (error) {
      throw ioError(`cannot open the control drive ${controlDrive}`, error);
    }
  }

  /** Looks once. Liveness first: what a guest wrote before its VMM ended is then always seen. */
  async look(): Promise<Sighting> {
    const vmmAlive = isAlive(this.#vmm);
    return { status: await readStatus(this.drive), vmmAlive };
  }

  /**
   * Looks now, at every change and a few times a second (a VMM's death is no event on the drive) until `judge`
   * returns something other than undefined.
   */
  async until<T>(judge: (sighting: Sighting) => T | undefined, signal?: AbortSignal): Promise<T> {
    using changes = new FileChanges(this.drive);
    const never = new AbortController().signal;
    for (;;) {
      signal?.throwIfAborted();
      const verdict = judge(await this.look());
      if (verdict !== undefined) return verdict;
      await changes.next(signal ?? never);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drive.close();
  }
}
