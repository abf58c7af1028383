import path from "node:path";
import { MessageChannel, Worker } from "node:worker_threads";
import { packageRoot } from "../../host/package-root.ts";
import { PARALLEL_LAYERS } from "../../host/processors.ts";
import type { Packed } from "../media-types.ts";
import type { GrowingBlob } from "../store/growing-blob.ts";
import {
  makeRingMemory,
  type RingMemory,
  RingReader,
  type UnpackJob,
  type UnpackMessage,
} from "./protocol.ts";

/** A worker without work ends after this time: the next image may follow at once, or never. */
const IDLE_MS = 1000;

/** What the rings of all threads take, in slabs of 1 MiB. */
const SLABS_IN_ALL = 36;
/** How far a thread gets ahead of its layer's turn. */
export const SLABS: number = Math.floor(SLABS_IN_ALL / PARALLEL_LAYERS);

/** A thread with the ring that it fills. */
interface Unpacker {
  readonly file: string;
  readonly worker: Worker;
  readonly memory: RingMemory;
}

const idle: Unpacker[] = [];

/** The worker's program as it was built; undefined when this runs from source, which no worker can load. */
export function workerFile(): string | undefined {
  if (import.meta.url.endsWith(".ts")) return undefined;
  return path.join(packageRoot(), "dist", "image", "unpack", "worker.cjs");
}

/**
 * A blob unpacked by a thread of its own, while it grows or from the store; the thread goes on until its ring is
 * full. A chunk is valid until the next one is asked for. Leaving the iteration early, or aborting, ends the work.
 * @throws Error when the blob is damaged or cannot be read; the signal's reason.
 */
export async function* unpackInWorker(
  blob: GrowingBlob,
  options: { compression: Packed; file: string; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const { signal } = options;
  signal?.throwIfAborted();
  await blob.started(signal);
  const job = new Job(takeUnpacker(options.file), blob, options.compression);
  const cancel = (): void => job.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      const chunk = await job.next();
      signal?.throwIfAborted();
      if (chunk === undefined) return;
      yield chunk;
      job.release();
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", cancel);
    await job.end();
  }
}

/** One blob in one worker. */
class Job {
  readonly #unpacker: Unpacker;
  readonly #ring: RingReader;
  readonly #unwatch: () => void;
  #wake: () => void = () => {};
  /** How it ended, once it has; undefined of `failure` for well. */
  #outcome: { readonly failure: Error | undefined; readonly isCrash: boolean } | undefined;

  constructor(unpacker: Unpacker, blob: GrowingBlob, compression: Packed) {
    const { worker, memory } = unpacker;
    const { port1, port2 } = new MessageChannel();
    this.#unpacker = unpacker;
    this.#ring = new RingReader(memory);
    port1.on("message", (message: UnpackMessage) => {
      if (message.kind === "filled") this.#wake();
      else this.#ended(failureIn(message), false);
    });
    worker.once("error", this.#onCrash);
    worker.once("exit", this.#onExit);
    this.#ring.grow(blob.written);
    this.#unwatch = blob.watch(() => this.#ring.grow(blob.written));
    const job: UnpackJob = { compression, files: blob.files, size: blob.size, ring: memory, port: port2 };
    worker.postMessage(job, [port2]);
  }

  readonly #onCrash = (error: unknown): void =>
    this.#ended(error instanceof Error ? error : new Error(String(error)), true);

  readonly #onExit = (status: number): void =>
    this.#ended(new Error(`the unpacking thread ended with status ${status}`), true);

  #ended(failure: Error | undefined, isCrash: boolean): void {
    this.#outcome ??= { failure, isCrash };
    this.#wake();
  }

  /** The next bytes; undefined at the end. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const outcome = this.#outcome;
      const chunk = this.#ring.next();
      if (chunk !== undefined) return chunk;
      // Looked at before the ring: what was filled before the end has been seen.
      if (outcome !== undefined) {
        if (outcome.failure !== undefined) throw outcome.failure;
        return undefined;
      }
      await this.#message();
    }
  }

  async #message(): Promise<void> {
    if (this.#outcome !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  release(): void {
    this.#ring.release();
  }

  cancel(): void {
    this.#ring.cancel();
  }

  /** Waits until the worker has let go of the blob. */
  async end(): Promise<void> {
    this.cancel();
    while (this.#outcome === undefined) await this.#message();
    this.#unwatch();
    const { worker } = this.#unpacker;
    worker.off("error", this.#onCrash);
    worker.off("exit", this.#onExit);
    if (this.#outcome.isCrash) await worker.terminate();
    else keepForLater(this.#unpacker);
  }
}

function failureIn(message: Exclude<UnpackMessage, { kind: "filled" }>): Error | undefined {
  return message.kind === "end"
    ? undefined
    : Object.assign(new Error(message.message), { code: message.code });
}

function takeUnpacker(file: string): Unpacker {
  const index = idle.findIndex((unpacker) => unpacker.file === file);
  const [known] = index < 0 ? [] : idle.splice(index, 1);
  if (known !== undefined) return known;
  const worker = new Worker(file, { execArgv: [], env: {} });
  worker.unref();
  return { file, worker, memory: makeRingMemory(SLABS) };
}

function keepForLater(unpacker: Unpacker): void {
  idle.push(unpacker);
  const timer = setTimeout(() => {
    const index = idle.indexOf(unpacker);
    if (index < 0) return;
    idle.splice(index, 1);
    void unpacker.worker.terminate();
  }, IDLE_MS);
  timer.unref();
}
