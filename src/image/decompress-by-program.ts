import type { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { errnoOf } from "../core/errors.ts";
import { findExecutable } from "../host/files.ts";
import { streamProgram } from "../host/process.ts";
import type { CompressedBytes } from "./decompress.ts";
import type { Compression } from "./media-types.ts";

/**
 * Programs that unpack faster than Node does: igzip (ISA-L) takes about half the time of zlib. They run beside
 * Node, so a damaged stream that would harm them harms no more than that process.
 */
const PROGRAMS: Readonly<Record<Compression, readonly string[] | undefined>> = {
  gzip: ["igzip", "-d", "-c"],
  zstd: ["zstd", "-d", "-c", "-q"],
  none: undefined,
};

/**
 * The program on PATH, with its arguments, that unpacks `compression` faster than Node; undefined when there is
 * none, or FIRECTL_DECOMPRESSOR is `node`.
 */
export async function findDecompressor(
  compression: Compression,
  env: NodeJS.ProcessEnv,
): Promise<readonly string[] | undefined> {
  const [name, ...args] = PROGRAMS[compression] ?? [];
  if (name === undefined || env["FIRECTL_DECOMPRESSOR"] === "node") return undefined;
  const file = await findExecutable(name, env["PATH"] ?? "");
  return file === undefined ? undefined : [file, ...args];
}

/**
 * What `program` makes of a blob. Leaving the iteration early ends it.
 * @throws FirectlError PROCESS_FAILED when it finds the stream damaged.
 */
export async function* decompressByProgram(
  source: CompressedBytes,
  options: { program: readonly string[]; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const [file = "", ...args] = options.program;
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const program = streamProgram(file, args, { signal, stdin: "file" in source ? source.file.fd : "pipe" });
  const feeding = "file" in source ? undefined : feed(source.chunks, program.stdin, signal);
  // Told below; the program's end may come first.
  feeding?.catch(() => {});
  try {
    const output: AsyncIterable<Uint8Array> = program.stdout;
    yield* output;
    // What broke the feeding made the program see a stream cut off: it is the failure to tell.
    await feeding;
    await program.finished;
  } finally {
    stop.abort();
    // The source must be at rest when this returns, whoever closes it.
    await feeding?.catch(() => {});
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
