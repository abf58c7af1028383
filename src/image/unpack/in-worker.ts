import { existsSync } from "node:fs";
import path from "node:path";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { packageRoot } from "../../host/package-root.ts";
import type { Compression } from "../media-types.ts";
import type { GrowingBlob } from "../store/growing-blob.ts";
import { Shared, type UnpackAnswer, type UnpackJob } from "./protocol.ts";

/** What a job has in its buffers at most: enough that neither side waits for the other's next step. */
const BUFFERS = 6;
const BUFFER_BYTES = 1024 * 1024;
/** A worker without work ends after this time: the next image may follow at once, or never. */
const IDLE_MS = 1000;

const idle: Worker[] = [];

/** The built worker; undefined in a checkout that is not built. */
export function workerFile(): string | undefined {
  const file = path.join(packageRoot(), "dist", "image", "unpack", "worker.js");
  return existsSync(file) ? file : undefined;
}

/**
 * A blob unpacked by a thread of its own, while it grows or from the store. A chunk is valid until the next one
 * is asked for. Leaving the iteration early, or aborting, ends the work.
 * @throws Error when the blob is damaged or cannot be read; the signal's reason.
 */
export async function* unpackInWorker(
  blob: GrowingBlob,
  options: { compression: Compression; file: string; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const { signal } = options;
  signal?.throwIfAborted();
  await blob.started(signal);
  const job = new Job(takeWorker(options.file), blob, options.compression);
  const cancel = (): void => job.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      const answer = await job.next();
      signal?.throwIfAborted();
      if (answer.kind === "end") return;
      if (answer.kind === "failed") throw Object.assign(new Error(answer.message), { code: answer.code });
      yield new Uint8Array(answer.buffer, 0, answer.length);
      job.giveBack(answer.buffer);
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    await job.end();
  }
}

/** One blob in one worker. */
class Job {
  readonly #worker: Worker;
  readonly #shared: Shared;
  readonly #port: MessagePort;
  readonly #unwatch: () => void;
  readonly #answers: UnpackAnswer[] = [];
  #waiting: (() => void) | undefined;
  #crash: Error | undefined;
  #isOver = false;

  constructor(worker: Worker, blob: GrowingBlob, compression: Compression) {
    const memory = new SharedArrayBuffer(Shared.BYTES);
    const { port1, port2 } = new MessageChannel();
    this.#worker = worker;
    this.#shared = new Shared(memory);
    this.#port = port1;
    port1.on("message", (answer: UnpackAnswer) => {
      this.#isOver ||= answer.kind !== "chunk";
      this.#tell(answer);
    });
    worker.once("error", this.#onCrash);
    worker.once("exit", this.#onExit);
    this.#shared.grow(blob.written);
    this.#unwatch = blob.watch(() => this.#shared.grow(blob.written));
    const job: UnpackJob = {
      compression,
      files: blob.files,
      size: blob.size,
      shared: memory,
      port: port2,
      buffers: Array.from({ length: BUFFERS }, () => new ArrayBuffer(BUFFER_BYTES)),
    };
    worker.postMessage(job, [port2, ...job.buffers]);
  }

  readonly #onCrash = (error: unknown): void => {
    this.#crash = error instanceof Error ? error : new Error(String(error));
    this.#isOver = true;
    this.#tell({ kind: "failed", message: this.#crash.message, code: undefined });
  };

  readonly #onExit = (status: number): void => this.#onCrash(new Error(`the thread ended with ${status}`));

  #tell(answer: UnpackAnswer): void {
    this.#answers.push(answer);
    this.#waiting?.();
  }

  async next(): Promise<UnpackAnswer> {
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined) return answer;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
  }

  giveBack(buffer: ArrayBuffer): void {
    if (this.#isOver) return;
    this.#port.postMessage(buffer, [buffer]);
    this.#shared.poke();
  }

  cancel(): void {
    this.#shared.cancel();
  }

  /** Waits until the worker has let go of the blob. */
  async end(): Promise<void> {
    this.cancel();
    while (!this.#isOver) await this.next();
    this.#unwatch();
    this.#port.close();
    this.#worker.off("error", this.#onCrash);
    this.#worker.off("exit", this.#onExit);
    if (this.#crash === undefined) keepForLater(this.#worker);
    else await this.#worker.terminate();
  }
}

function takeWorker(file: string): Worker {
  const known = idle.pop();
  if (known !== undefined) return known;
  const worker = new Worker(file, { execArgv: [], env: {}, stdin: false });
  worker.unref();
  return worker;
}

function keepForLater(worker: Worker): void {
  idle.push(worker);
  const timer = setTimeout(() => {
    const index = idle.indexOf(worker);
    if (index < 0) return;
    idle.splice(index, 1);
    void worker.terminate();
  }, IDLE_MS);
  timer.unref();
}
