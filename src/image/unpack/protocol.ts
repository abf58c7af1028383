import type { MessagePort } from "node:worker_threads";
import type { Compression } from "../media-types.ts";

/*
 * Between the thread that wants a layer's tar and the worker that unpacks it. The buffers go round: the worker
 * fills one and sends it, and gets it back when it has been used, so that neither allocates one per piece. The
 * worker never returns to its event loop within a job: it waits on the shared word WAKE, which the other side
 * adds to after everything that it may wait for.
 */

/** What a worker shall unpack. */
export interface UnpackJob {
  readonly compression: Compression;
  /** Where the blob is, the first that exists: it may move while it grows. */
  readonly files: readonly string[];
  /** Bytes that the whole blob has. */
  readonly size: number;
  /** See {@link Shared}. */
  readonly shared: SharedArrayBuffer;
  /** Chunks go out here, empty buffers come back. */
  readonly port: MessagePort;
  readonly buffers: readonly ArrayBuffer[];
}

/** What a worker answers on a job's port: chunks, then one of the others. */
export type UnpackAnswer =
  | { readonly kind: "chunk"; readonly buffer: ArrayBuffer; readonly length: number }
  | { readonly kind: "end" }
  | { readonly kind: "failed"; readonly message: string; readonly code: string | undefined };

/** The words that both sides see. */
export class Shared {
  static readonly BYTES = 16;
  readonly #words: Int32Array;
  readonly #written: BigInt64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, 2);
    this.#written = new BigInt64Array(memory, 8, 1);
  }

  /** Changes with everything that the worker may wait for. */
  get wake(): number {
    return Atomics.load(this.#words, 0);
  }

  get isCancelled(): boolean {
    return Atomics.load(this.#words, 1) !== 0;
  }

  /** Bytes of the blob that stand in its file. */
  get written(): number {
    return Number(Atomics.load(this.#written, 0));
  }

  /** Wakes the worker: there is a buffer in its port. */
  poke(): void {
    Atomics.add(this.#words, 0, 1);
    Atomics.notify(this.#words, 0);
  }

  grow(written: number): void {
    Atomics.store(this.#written, 0, BigInt(written));
    this.poke();
  }

  cancel(): void {
    Atomics.store(this.#words, 1, 1);
    this.poke();
  }

  /** Blocks the thread until {@link wake} is no longer `seen`. */
  wait(seen: number): void {
    Atomics.wait(this.#words, 0, seen);
  }
}
