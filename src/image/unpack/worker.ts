import { closeSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { errnoOf, messageOf } from "../../core/errors.ts";
import { decoderFor } from "./decoder.ts";
import { RingWriter, type UnpackJob, type UnpackMessage } from "./protocol.ts";

/*
 * The worker's side of protocol.ts: reads a blob, which may still grow, and unpacks it into the ring, all of it
 * synchronously once the decoder is there. A job of Node's thread pool for each piece, and a turn of an event loop
 * after it, cost more than a third of inflating it.
 */

const READ_BYTES = 256 * 1024;
/** Compressed bytes given to the decoder at a time: some make a thousand times as many of them at once. */
const PIECE_BYTES = 64 * 1024;

const input: Buffer = Buffer.allocUnsafeSlow(READ_BYTES);

parentPort?.on("message", async (job: UnpackJob) => {
  job.port.postMessage(await outcomeOf(job));
  job.port.close();
});

async function outcomeOf(job: UnpackJob): Promise<UnpackMessage> {
  try {
    await unpack(job);
    return { kind: "end" };
  } catch (error) {
    return { kind: "failed", message: messageOf(error), code: errnoOf(error) };
  }
}

async function unpack(job: UnpackJob): Promise<void> {
  const ring = new RingWriter(job.ring, () =>
    job.port.postMessage({ kind: "filled" } satisfies UnpackMessage),
  );
  const decoder = await decoderFor(job.compression, ring);
  const fd = openFirst(job.files);
  try {
    let position = 0;
    while (position < job.size) {
      const available = ring.waitForMore(position);
      const length = readSync(fd, input, 0, Math.min(available, READ_BYTES), position);
      if (length === 0) throw new Error(`the blob ends after ${position} of ${job.size} bytes`);
      for (let start = 0; start < length; start += PIECE_BYTES) {
        decoder.write(input.subarray(start, Math.min(start + PIECE_BYTES, length)));
      }
      position += length;
    }
    decoder.end();
    ring.flush();
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
