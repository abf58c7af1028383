import type { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { errnoOf } from "../../core/errors.ts";
import { streamProgram } from "../../host/process.ts";

/**
 * What a program, given with its arguments, makes of `chunks`: it reads stdin and writes stdout. Leaving the
 * iteration early ends it.
 * @throws FirectlError PROCESS_FAILED when it finds the stream damaged; what `chunks` throws.
 */
export async function* throughProgram(
  chunks: AsyncIterable<Uint8Array>,
  options: { program: readonly string[]; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const [file = "", ...args] = options.program;
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const program = streamProgram(file, args, { signal, stdin: "pipe" });
  const feeding = feed(chunks, program.stdin, signal);
  // Told below; the program's end may come first.
  feeding.catch(() => {});
  try {
    const output: AsyncIterable<Uint8Array> = program.stdout;
    yield* output;
    // What broke the feeding made the program see a stream cut off: it is the failure to tell.
    await feeding;
    await program.finished;
  } finally {
    stop.abort();
    // The source must be at rest when this returns, whoever closes it.
    await feeding.catch(() => {});
  }
}

async function feed(
  chunks: AsyncIterable<Uint8Array>,
  stdin: Writable | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (stdin === undefined) throw new Error("stdin was asked for as a pipe");
  try {
    await pipeline(chunks, stdin, { signal });
  } catch (error) {
    // A program that has ended reads no more: its status says why.
    if (errnoOf(error) !== "EPIPE" && errnoOf(error) !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  }
}
