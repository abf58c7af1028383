import { type FileHandle, open } from "node:fs/promises";
import { errnoOf } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import type { BlobDescriptor, ContentStore } from "./content-store.ts";

const READ_BYTES = 512 * 1024;

/**
 * A blob on its way into the store, and its reader: what has been written can be read while the rest still
 * comes. The reader may be slower than the network; nothing waits for it. Its bytes are verified by the
 * download, which fails after the last of them if they are wrong.
 */
export class GrowingBlob {
  readonly #store: ContentStore;
  readonly #blob: BlobDescriptor;
  /** The file in which it grows, once it does so from its first byte. */
  #file: string | undefined;
  #written = 0;
  #isHere = false;
  #waiting: Set<() => void> = new Set();

  constructor(store: ContentStore, blob: BlobDescriptor) {
    this.#store = store;
    this.#blob = blob;
  }

  /**
   * One that is there already.
   * @throws FirectlError LAYER_INVALID when it is not, or has another size than it should.
   */
  static async inStore(store: ContentStore, blob: BlobDescriptor): Promise<GrowingBlob> {
    await (await store.openBlob(blob)).close();
    const found = new GrowingBlob(store, blob);
    found.arrive();
    return found;
  }

  /** Bytes that it will have. */
  get size(): number {
    return this.#blob.size;
  }

  /** Bytes that can be read already. */
  get written(): number {
    return this.#written;
  }

  /** Where it can be read, the first of them that exists. */
  get files(): readonly string[] {
    const inStore = this.#store.blobPath(this.#blob.digest);
    return this.#file === undefined ? [inStore] : [this.#file, inStore];
  }

  /** Waits until there is a file to read, or `signal` aborts. */
  async started(signal: AbortSignal | undefined): Promise<void> {
    while (this.#written === 0 && !this.#isHere) {
      signal?.throwIfAborted();
      await this.#change(signal);
    }
    signal?.throwIfAborted();
  }

  /**
   * Waits until all of it is in the store, verified.
   * @throws the signal's reason, with which a download that fails ends whoever waits for it.
   */
  async whole(signal: AbortSignal | undefined): Promise<void> {
    while (!this.#isHere) await this.#change(signal);
  }

  /** Calls `changed` with each change, until the returned function is called. */
  watch(changed: () => void): () => void {
    this.#waiting.add(changed);
    return () => this.#waiting.delete(changed);
  }

  /** Whether all of it is in the store, verified. */
  get isHere(): boolean {
    return this.#isHere;
  }

  /** So many bytes stand in `file`, from the first on. */
  grow(file: string, written: number): void {
    this.#file = file;
    this.#written = written;
    this.#notify();
  }

  /** All of it is in the store. */
  arrive(): void {
    this.#isHere = true;
    this.#written = this.#blob.size;
    this.#notify();
  }

  /**
   * All bytes in order, each as soon as it is here; waits for them until `signal` aborts.
   * @throws FirectlError LAYER_INVALID when the store has lost it, IO_FAILED; the signal's reason.
   */
  async *chunks(signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    let handle: FileHandle | undefined;
    let position = 0;
    try {
      while (position < this.#blob.size) {
        signal?.throwIfAborted();
        if (position < this.#written) handle ??= await this.#open();
        const length = Math.min(this.#written - position, READ_BYTES);
        if (handle === undefined || length === 0) {
          await this.#change(signal);
          continue;
        }
        const buffer = Buffer.allocUnsafeSlow(length);
        const { bytesRead } = await handle.read(buffer, 0, length, position);
        if (bytesRead === 0) throw new Error(`it ends after ${position} of ${this.#blob.size} bytes`);
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle?.close();
    }
  }

  /** Undefined when it moves into its place at this very moment: {@link arrive} will tell. */
  async #open(): Promise<FileHandle | undefined> {
    if (this.#isHere || this.#file === undefined) return this.#store.openBlob(this.#blob);
    try {
      return await open(this.#file, "r");
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot open ${this.#file}`, error);
      this.#file = undefined;
      if (!this.#isHere) this.#written = 0;
      return undefined;
    }
  }

  async #change(signal: AbortSignal | undefined): Promise<void> {
    // An event that has been is not told again.
    signal?.throwIfAborted();
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }

  #notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}
