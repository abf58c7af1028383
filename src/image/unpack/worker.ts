import { closeSync, openSync, readSync } from "node:fs";
import { type MessagePort, parentPort, receiveMessageOnPort } from "node:worker_threads";
import { errnoOf, messageOf } from "../../core/errors.ts";
import { decoderFor } from "./decoder.ts";
import { Shared, type UnpackAnswer, type UnpackJob } from "./protocol.ts";

/*
 * The worker's side of protocol.ts: reads a blob, which may still grow, unpacks it and sends it on, all of it
 * synchronously. A job of Node's thread pool for each piece, and a turn of an event loop after it, cost more than
 * a third of inflating it.
 */

const READ_BYTES = 512 * 1024;
/** Compressed bytes given to the decoder at a time: it may make a thousand times as many of them at once. */
const PIECE_BYTES = 64 * 1024;

/** The other side wants no more. */
class Cancelled extends Error {}

const input: Buffer = Buffer.allocUnsafeSlow(READ_BYTES);

parentPort?.on("message", (job: UnpackJob) => {
  answer(job.port, outcomeOf(job));
});

function outcomeOf(job: UnpackJob): UnpackAnswer {
  try {
    unpack(job);
    return { kind: "end" };
  } catch (error) {
    return { kind: "failed", message: messageOf(error), code: errnoOf(error) };
  }
}

function unpack(job: UnpackJob): void {
  const shared = new Shared(job.shared);
  const output = new Output(job, shared);
  const decoder = decoderFor(job.compression, (bytes) => output.put(bytes));
  const fd = openFirst(job.files);
  try {
    let position = 0;
    while (position < job.size) {
      const available = waitForMore(shared, position);
      const length = readSync(fd, input, 0, Math.min(available, READ_BYTES), position);
      if (length === 0) throw new Error(`the blob ends after ${position} of ${job.size} bytes`);
      for (let start = 0; start < length; start += PIECE_BYTES) {
        decoder.write(input.subarray(start, Math.min(start + PIECE_BYTES, length)));
      }
      position += length;
    }
    decoder.end();
    output.flush();
  } finally {
    closeSync(fd);
  }
}

function openFirst(files: readonly string[]): number {
  for (const [index, file] of files.entries()) {
    try {
      return openSync(file, "r");
    } catch (error) {
      if (errnoOf(error) !== "ENOENT" || index === files.length - 1) throw error;
    }
  }
  throw new Error("a blob is somewhere");
}

/** Bytes that stand behind `position`, at least one. */
function waitForMore(shared: Shared, position: number): number {
  for (;;) {
    const seen = shared.wake;
    if (shared.isCancelled) throw new Cancelled("given up");
    const available = shared.written - position;
    if (available > 0) return available;
    shared.wait(seen);
  }
}

/** Fills the job's buffers and sends them. */
class Output {
  readonly #port: MessagePort;
  readonly #shared: Shared;
  readonly #empty: ArrayBuffer[];
  #current: Uint8Array | undefined;
  #filled = 0;

  constructor(job: UnpackJob, shared: Shared) {
    this.#port = job.port;
    this.#shared = shared;
    this.#empty = [...job.buffers];
  }

  put(bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      this.#current ??= new Uint8Array(this.#emptyBuffer());
      const length = Math.min(bytes.length - done, this.#current.length - this.#filled);
      this.#current.set(bytes.subarray(done, done + length), this.#filled);
      this.#filled += length;
      done += length;
      if (this.#filled === this.#current.length) this.flush();
    }
  }

  flush(): void {
    if (this.#current === undefined || this.#filled === 0) return;
    // Made from an ArrayBuffer above.
    const buffer = this.#current.buffer as ArrayBuffer;
    answer(this.#port, { kind: "chunk", buffer, length: this.#filled }, [buffer]);
    this.#current = undefined;
    this.#filled = 0;
  }

  #emptyBuffer(): ArrayBuffer {
    for (;;) {
      const seen = this.#shared.wake;
      if (this.#shared.isCancelled) throw new Cancelled("given up");
      const known = this.#empty.pop();
      if (known !== undefined) return known;
      const returned = receiveMessageOnPort(this.#port);
      // The other side sends nothing but the buffers that it got.
      if (returned !== undefined) return returned.message as ArrayBuffer;
      this.#shared.wait(seen);
    }
  }
}

function answer(port: MessagePort, message: UnpackAnswer, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}
