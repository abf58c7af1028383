import { watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { readStatus } from "../guest/control-drive.ts";
import type { VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { ioError } from "../host/files.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";

/** How often to look when nothing announces a change: a VMM's death makes no event on the control drive. */
const LOOK_INTERVAL_MS = 100;

/** What can be known of a guest from outside: its own last word, and whether its VMM lives. */
export interface Sighting {
  readonly status: VmStatus | undefined;
  readonly vmmAlive: boolean;
}

/** A guest's control drive, open: readable to the end even when the VM is removed meanwhile. */
export class GuestWatch implements AsyncDisposable {
  readonly drive: FileHandle;
  readonly #path: string;
  readonly #vmm: ProcessIdentity;

  private constructor(drive: FileHandle, path: string, vmm: ProcessIdentity) {
    this.drive = drive;
    this.#path = path;
    this.#vmm = vmm;
  }

  static async open(controlDrive: string, vmm: ProcessIdentity): Promise<GuestWatch> {
    try {
      return new GuestWatch(await open(controlDrive, "r"), controlDrive, vmm);
    } catch (error) {
      throw ioError(`cannot open the control drive ${controlDrive}`, error);
    }
  }

  /** Looks once. Liveness first: what a guest wrote before its VMM ended is then always seen. */
  async look(): Promise<Sighting> {
    const vmmAlive = isAlive(this.#vmm);
    return { status: await readStatus(this.drive), vmmAlive };
  }

  /** Looks now and at every change until `judge` returns something other than undefined. */
  async until<T>(judge: (sighting: Sighting) => T | undefined, signal?: AbortSignal): Promise<T> {
    let wake = (): void => {};
    let changed = false;
    const onChange = (): void => {
      changed = true;
      wake();
    };
    const watcher = this.#watchFile(onChange);
    signal?.addEventListener("abort", onChange);
    try {
      for (;;) {
        signal?.throwIfAborted();
        changed = false;
        const verdict = judge(await this.look());
        if (verdict !== undefined) return verdict;
        if (changed) continue;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, LOOK_INTERVAL_MS);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    } finally {
      signal?.removeEventListener("abort", onChange);
      watcher?.close();
    }
  }

  #watchFile(onChange: () => void): { close(): void } | undefined {
    try {
      return watch(this.#path, onChange).on("error", () => {});
    } catch {
      // inotify is exhausted, or the file is already gone: the interval does alone.
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drive.close();
  }
}
