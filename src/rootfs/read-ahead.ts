import { KIB } from "../core/units.ts";

/** Bytes of one slab: about what a decompressor hands out at a time. */
const SLAB_BYTES = 512 * KIB;

/** A piece of what was read ahead. */
interface Slab {
  readonly bytes: Buffer;
  length: number;
}

/** The memory that all layers read ahead share; slabs are made when first needed and used again. */
export class SlabPool {
  readonly #free: Slab[] = [];
  readonly #waiting: Set<() => void> = new Set();
  #unmade: number;

  /** @param maxBytes How much may be held at a time. */
  constructor(maxBytes: number) {
    this.#unmade = Math.floor(maxBytes / SLAB_BYTES);
  }

  /** An empty slab, or undefined when all are in use. */
  take(): Slab | undefined {
    const used = this.#free.pop();
    if (used !== undefined) {
      used.length = 0;
      return used;
    }
    if (this.#unmade === 0) return undefined;
    this.#unmade--;
    return { bytes: Buffer.allocUnsafeSlow(SLAB_BYTES), length: 0 };
  }

  give(slab: Slab): void {
    this.#free.push(slab);
    for (const wake of this.#waiting) wake();
  }

  /** Calls `wake` whenever a slab comes back, until the returned function is called. */
  watch(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }
}

/**
 * Reads a source before its turn, as far as the pool's memory goes. Once someone asks for its bytes they are
 * handed out in order: first what was kept, then each chunk as it comes, without a copy.
 */
export class ReadAhead implements AsyncDisposable {
  readonly #pool: SlabPool;
  readonly #controller: AbortController = new AbortController();
  readonly #pump: Promise<void>;
  #kept: Slab[] = [];
  /** Takes the next chunk, or learns that there is none: someone waits for it. */
  #taker: ((chunk: Uint8Array | undefined) => void) | undefined;
  /** Ends the pause of the pump, which has a chunk and nowhere to put it. */
  #wake: () => void = () => {};
  #ended = false;

  /** @param open Gives chunks that stay as they are until the next one is asked for. */
  constructor(open: (signal: AbortSignal) => AsyncIterable<Uint8Array>, pool: SlabPool) {
    this.#pool = pool;
    const { signal } = this.#controller;
    signal.addEventListener("abort", () => this.#wake());
    this.#pump = this.#run(open(signal)).finally(() => {
      this.#ended = true;
      this.#taker?.(undefined);
    });
    // Whoever reads the chunks learns of it; it may be that nobody does.
    this.#pump.catch(() => {});
  }

  /** Settles when all of the source has been read, or reading it has failed; never rejects. */
  async settled(): Promise<void> {
    await this.#pump.catch(() => {});
  }

  /** The source's bytes from its first on; a chunk is valid until the next one is asked for. One reader only. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const slab = this.#kept.shift();
      if (slab !== undefined) {
        yield slab.bytes.subarray(0, slab.length);
        this.#pool.give(slab);
      } else if (this.#ended) {
        await this.#pump;
        return;
      } else {
        const chunk = await this.#next();
        if (chunk !== undefined) yield chunk;
      }
    }
  }

  #next(): Promise<Uint8Array | undefined> {
    return new Promise((resolve) => {
      this.#taker = resolve;
      this.#wake();
    });
  }

  async #run(source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of source) {
      await this.#place(chunk);
      this.#controller.signal.throwIfAborted();
    }
  }

  /** Gives a chunk to whoever waits for it, else keeps it, else waits for either to be possible. */
  async #place(chunk: Uint8Array): Promise<void> {
    let rest = chunk;
    while (rest.length > 0 && !this.#controller.signal.aborted) {
      const taker = this.#taker;
      if (taker !== undefined) {
        this.#taker = undefined;
        taker(rest);
        // The chunk is the reader's until the next one is asked for.
        while (this.#taker === undefined && !this.#controller.signal.aborted) await this.#pause();
        return;
      }
      const kept = this.#keep(rest);
      if (kept === 0) await this.#pause();
      rest = rest.subarray(kept);
    }
  }

  /** Copies what fits; returns how much that was. */
  #keep(bytes: Uint8Array): number {
    let slab = this.#kept.at(-1);
    if (slab === undefined || slab.length === slab.bytes.length) {
      slab = this.#pool.take();
      if (slab === undefined) return 0;
      this.#kept.push(slab);
    }
    const length = Math.min(bytes.length, slab.bytes.length - slab.length);
    slab.bytes.set(bytes.subarray(0, length), slab.length);
    slab.length += length;
    return length;
  }

  /** Until the reader asks, the pool has room, or all is over. */
  async #pause(): Promise<void> {
    let unwatch = (): void => {};
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      unwatch = this.#pool.watch(resolve);
    });
    unwatch();
    this.#wake = () => {};
  }

  /** Stops reading and waits until the source has let go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    await this.settled();
    for (const slab of this.#kept) this.#pool.give(slab);
    this.#kept = [];
  }
}
