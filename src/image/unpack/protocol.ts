import type { MessagePort } from "node:worker_threads";
import type { Packed } from "../media-types.ts";

/*
 * Between the thread that wants a layer's tar and the worker that unpacks it: a ring of slabs in shared memory,
 * which the worker fills and the reader uses in turn. Nothing is copied on the way, and nothing allocated for a
 * piece: buffers made anew had V8 collect garbage for a fifth of the time. Neither side waits in its event loop
 * for the other: the worker blocks on the word WAKE, and it sends a message only to a reader that sleeps.
 *
 *   words (32 bits): 0 WAKE, 1 cancelled, 2 slabs filled, 3 slabs used, 4 the reader sleeps, 5 unused,
 *   6 and 7 as one: bytes of the blob that stand in its file; from 8 on the length of each slab
 */

/** A slab's size: so much is unpacked, hashed and written at a time. */
export const SLAB_BYTES: number = 1024 * 1024;

const WAKE = 0;
const CANCELLED = 1;
const FILLED = 2;
const USED = 3;
const READER_SLEEPS = 4;
const WRITTEN_BYTE = 24;
const LENGTHS = 8;

/** What a worker shall unpack. */
export interface UnpackJob {
  readonly compression: Packed;
  /** Where the blob is, the first that exists: it may move while it grows. */
  readonly files: readonly string[];
  /** Bytes that the whole blob has. */
  readonly size: number;
  readonly ring: RingMemory;
  /** Takes a {@link UnpackMessage} for each wake-up, and the outcome. */
  readonly port: MessagePort;
}

/** What a worker says: there are slabs for a reader that slept, or how it ended. */
export type UnpackMessage =
  | { readonly kind: "filled" }
  | { readonly kind: "end" }
  | { readonly kind: "failed"; readonly message: string; readonly code: string | undefined };

export interface RingMemory {
  readonly words: SharedArrayBuffer;
  readonly slabs: SharedArrayBuffer;
}

/** Memory for one blob after another: so many slabs are also how far a layer is read ahead of its turn. */
export function makeRingMemory(slabs: number): RingMemory {
  return {
    words: new SharedArrayBuffer(4 * (LENGTHS + slabs)),
    slabs: new SharedArrayBuffer(slabs * SLAB_BYTES),
  };
}

/** Both sides' view of the ring. */
class Ring {
  protected readonly words: Int32Array;
  protected readonly written: BigInt64Array;
  protected readonly slabs: readonly Buffer[];

  constructor(memory: RingMemory) {
    this.words = new Int32Array(memory.words);
    this.written = new BigInt64Array(memory.words, WRITTEN_BYTE, 1);
    this.slabs = Array.from({ length: memory.slabs.byteLength / SLAB_BYTES }, (_, index) =>
      Buffer.from(memory.slabs, index * SLAB_BYTES, SLAB_BYTES),
    );
  }

  protected slab(count: number): Buffer {
    const slab = this.slabs[this.index(count)];
    if (slab === undefined) throw new Error("a ring has all its slabs");
    return slab;
  }

  protected index(count: number): number {
    return count % this.slabs.length;
  }
}

/** The worker's side. It blocks its thread where there is nothing to do. */
export class RingWriter extends Ring {
  #filled = 0;
  #length = 0;
  readonly #wakeReader: () => void;

  /** @param wakeReader Called when a sleeping reader has something to read. */
  constructor(memory: RingMemory, wakeReader: () => void) {
    super(memory);
    this.#wakeReader = wakeReader;
  }

  /**
   * Where the next bytes go: what is free of a slab.
   * @throws Error when the reader wants no more.
   */
  space(): Uint8Array {
    if (this.#length === 0) {
      this.#wait(() =>
        this.#filled - Atomics.load(this.words, USED) < this.slabs.length ? true : undefined,
      );
    }
    return this.slab(this.#filled).subarray(this.#length);
  }

  /** So many bytes have been put there. */
  advance(length: number): void {
    this.#length += length;
    if (this.#length === SLAB_BYTES) this.flush();
  }

  /** Hands over a slab that is not full. */
  flush(): void {
    if (this.#length === 0) return;
    Atomics.store(this.words, LENGTHS + this.index(this.#filled), this.#length);
    this.#filled++;
    this.#length = 0;
    Atomics.store(this.words, FILLED, this.#filled);
    if (Atomics.exchange(this.words, READER_SLEEPS, 0) === 1) this.#wakeReader();
  }

  /**
   * Waits until the blob's file has more than `position` bytes; returns how many more.
   * @throws Error when the reader wants no more.
   */
  waitForMore(position: number): number {
    return this.#wait(() => {
      const more = Number(Atomics.load(this.written, 0)) - position;
      return more > 0 ? more : undefined;
    });
  }

  #wait<T>(ready: () => T | undefined): T {
    for (;;) {
      const seen = Atomics.load(this.words, WAKE);
      if (Atomics.load(this.words, CANCELLED) !== 0) throw new Error("given up");
      const found = ready();
      if (found !== undefined) return found;
      Atomics.wait(this.words, WAKE, seen);
    }
  }
}

/** The reader's side. */
export class RingReader extends Ring {
  #used = 0;

  /** Makes the memory fit for another blob. */
  constructor(memory: RingMemory) {
    super(memory);
    this.words.fill(0);
  }

  /** The next bytes; undefined when there are none yet: then the writer will send a message. */
  next(): Buffer | undefined {
    const found = this.#peek();
    if (found !== undefined) return found;
    Atomics.store(this.words, READER_SLEEPS, 1);
    return this.#peek();
  }

  #peek(): Buffer | undefined {
    if (Atomics.load(this.words, FILLED) === this.#used) return undefined;
    return this.slab(this.#used).subarray(0, Atomics.load(this.words, LENGTHS + this.index(this.#used)));
  }

  /** Gives back what {@link next} returned. */
  release(): void {
    this.#used++;
    Atomics.store(this.words, USED, this.#used);
    this.#wakeWriter();
  }

  /** So many bytes of the blob stand in its file. */
  grow(written: number): void {
    Atomics.store(this.written, 0, BigInt(written));
    this.#wakeWriter();
  }

  cancel(): void {
    Atomics.store(this.words, CANCELLED, 1);
    this.#wakeWriter();
  }

  #wakeWriter(): void {
    Atomics.add(this.words, WAKE, 1);
    Atomics.notify(this.words, WAKE);
  }
}
