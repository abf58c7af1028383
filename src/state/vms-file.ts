import { rename } from "node:fs/promises";
import path from "node:path";
import { FirectlError, messageOf } from "../core/errors.ts";
import { makePrivateDirectory, readTextIfPresent, writeFileAtomic } from "../host/files.ts";
import { withHolderLock } from "../host/holder-lock.ts";
import type { VmRecord } from "./vm-record.ts";

/** Long enough for fifty commands that each hold the lock for some milliseconds on a slow machine. */
const LOCK_TIMEOUT_MS = 60_000;

/**
 * `vms.json`: a JSON list of VM records, changed only under a lock and replaced atomically, so that reading
 * needs no lock.
 */
export class VmsFile {
  readonly path: string;
  readonly #lockPath: string;
  readonly #guardPath: string;
  /** What this process wrote last, which needs no checking when it is read again. */
  #written: string | undefined;

  constructor(configDirectory: string) {
    this.path = path.join(configDirectory, "vms.json");
    this.#lockPath = path.join(configDirectory, "vms.holder");
    this.#guardPath = path.join(configDirectory, "vms.lock");
  }

  /**
   * The records as they stand.
   * @throws FirectlError STATE_CORRUPT after having moved a file that cannot be parsed aside.
   */
  async read(): Promise<readonly VmRecord[]> {
    try {
      return await this.#parse();
    } catch (error) {
      if (!(error instanceof UnreadableState)) throw error;
      // Move it aside only under the lock: whoever came first may have done so already.
      return this.#locked(() => this.#parseOrSetAside());
    }
  }

  /**
   * Changes the records under the lock. `change` gets them as they stand and returns the new list, or
   * undefined to leave them; its `result` is handed out.
   */
  async update<T>(
    change: (records: readonly VmRecord[]) => { records?: readonly VmRecord[]; result: T },
  ): Promise<T> {
    return this.#locked(async () => {
      const { records, result } = change(await this.#parseOrSetAside());
      if (records !== undefined) {
        const text = `${JSON.stringify(records, null, 2)}\n`;
        await writeFileAtomic(this.path, text);
        this.#written = text;
      }
      return result;
    });
  }

  /** Runs `work` on the records as they stand, while nobody can add or change one. */
  async hold<T>(work: (records: readonly VmRecord[]) => Promise<T>): Promise<T> {
    return this.#locked(async () => work(await this.#parseOrSetAside()));
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    await makePrivateDirectory(path.dirname(this.path));
    return withHolderLock(this.#lockPath, { guard: this.#guardPath, timeoutMs: LOCK_TIMEOUT_MS }, work);
  }

  async #parse(): Promise<VmRecord[]> {
    const text = await readTextIfPresent(this.path);
    // The schema library is not loaded for a state without VMs, nor for a run beside none: both must be fast.
    if (text === undefined || text.trim() === "[]") return [];
    if (text === this.#written) return JSON.parse(text) as VmRecord[];
    const { parseVmRecords } = await import("./vm-record.ts");
    try {
      return parseVmRecords(text);
    } catch (error) {
      throw new UnreadableState(messageOf(error));
    }
  }

  async #parseOrSetAside(): Promise<VmRecord[]> {
    try {
      return await this.#parse();
    } catch (error) {
      if (!(error instanceof UnreadableState)) throw error;
      const aside = `${this.path}.unreadable-${new Date().toISOString().replaceAll(":", "")}`;
      await rename(this.path, aside);
      throw new FirectlError("STATE_CORRUPT", `${this.path} is not a list of VM records: ${error.message}`, {
        hint: `it is kept as ${aside}: mend it and move it back, or go on without it (its VMs then run unrecorded)`,
        cause: error,
      });
    }
  }
}

class UnreadableState extends Error {}
