import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { pipeline, Readable, type Transform } from "node:stream";
import zlib from "node:zlib";
import type { Digest } from "../core/brands.ts";
import { FirectlError, messageOf } from "../core/errors.ts";
import { decompressByProgram } from "./decompress-by-program.ts";
import type { Compression } from "./media-types.ts";
import { digestOf } from "./store/content-store.ts";

/**
 * Each piece is a job of the thread pool, so that Node's default of 16 KiB makes inflating 2.3 times slower; and
 * with several pieces in and out at hand, the next job begins before the main thread has used the last one's.
 */
const INFLATE_OPTIONS = {
  chunkSize: 1024 * 1024,
  writableHighWaterMark: 2 * 1024 * 1024,
  readableHighWaterMark: 2 * 1024 * 1024,
};
/** Read at a time from a blob. */
const READ_BYTES = 512 * 1024;
/** fzstd recurses once a frame: this bounds the frames, of 13 bytes and more, that one call can meet. */
const ZSTD_PIECE_BYTES = 32 * 1024;

/** A blob to unpack: a file with all of it, which is closed in the end, or its bytes as they come. */
export type CompressedBytes = { readonly file: FileHandle } | { readonly chunks: AsyncIterable<Uint8Array> };

export interface DecompressOptions {
  readonly compression: Compression;
  /** Names it in errors: `layer sha256:…`. */
  readonly what: string;
  /** Digest that the decompressed bytes must have. */
  readonly diffId: Digest;
  /** More decompressed bytes than this are refused. */
  readonly maxBytes?: number | undefined;
  /** A program that unpacks from stdin to stdout, with its arguments, to use instead of Node. */
  readonly program?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The uncompressed bytes of a layer. Its digest is checked at the end, so what was yielded counts only when
 * the iteration ends without an error. Leaving the iteration early, or aborting, frees everything.
 * @throws FirectlError LAYER_INVALID for a stream that is damaged or too large, DIGEST_MISMATCH.
 */
export async function* decompress(
  source: CompressedBytes,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash("sha256");
  const maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
  let total = 0;
  try {
    options.signal?.throwIfAborted();
    for await (const chunk of decoded(source, options)) {
      total += chunk.byteLength;
      if (total > maxBytes) throw bomb(options.what, maxBytes);
      hash.update(chunk);
      yield chunk;
      options.signal?.throwIfAborted();
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    throw asLayerError(error, options.what);
  } finally {
    if ("file" in source) await source.file.close();
  }
  const actual = digestOf(hash.digest("hex"));
  if (actual !== options.diffId) {
    throw new FirectlError(
      "DIGEST_MISMATCH",
      `${options.what} unpacks to ${actual}, expected ${options.diffId}`,
    );
  }
}

function decoded(source: CompressedBytes, options: DecompressOptions): AsyncIterable<Uint8Array> {
  const { compression, program, signal } = options;
  if (program !== undefined) return decompressByProgram(source, { program, signal });
  const compressed = streamOf(source);
  const decoder = nativeDecoder(compression);
  if (decoder !== undefined)
    return ended(
      pipeline(compressed, decoder, () => {}),
      options,
    );
  const chunks: AsyncIterable<Uint8Array> = ended(compressed, options);
  return compression === "zstd" ? zstdByLibrary(chunks) : chunks;
}

/** A stream's chunks; it is destroyed, and what feeds it with it, when the reader leaves or `signal` aborts. */
async function* ended(
  stream: Readable,
  options: { signal?: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const destroy = (): void => void stream.destroy();
  options.signal?.addEventListener("abort", destroy, { once: true });
  try {
    const chunks: AsyncIterable<Uint8Array> = stream;
    yield* chunks;
  } finally {
    options.signal?.removeEventListener("abort", destroy);
    destroy();
  }
}

function streamOf(source: CompressedBytes): Readable {
  return "file" in source
    ? source.file.createReadStream({ highWaterMark: READ_BYTES, autoClose: false, start: 0 })
    : Readable.from(source.chunks);
}

function bomb(what: string, maxBytes: number): FirectlError {
  return new FirectlError("LAYER_INVALID", `${what} unpacks to more than ${maxBytes} bytes`, {
    hint: "it may be a decompression bomb; if it is not, raise the limit",
  });
}

function nativeDecoder(compression: Compression): Transform | undefined {
  switch (compression) {
    case "none":
      return undefined;
    case "gzip":
      return zlib.createGunzip(INFLATE_OPTIONS);
    case "zstd":
      return zstdTransform?.(INFLATE_OPTIONS);
  }
}

/** zstd has been part of node:zlib since 22.15, of which the types for Node 20 know nothing. */
const zstdTransform: ((options: typeof INFLATE_OPTIONS) => Transform) | undefined =
  "createZstdDecompress" in zlib && typeof zlib.createZstdDecompress === "function"
    ? // https://nodejs.org/api/zlib.html#zlibcreatezstddecompressoptions
      (zlib.createZstdDecompress as (options: typeof INFLATE_OPTIONS) => Transform)
    : undefined;

/** Decodes zstd where node:zlib cannot. Its checksums are not looked at: the diff_id covers all of it. */
async function* zstdByLibrary(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import("fzstd");
  let output: Uint8Array[] = [];
  const decoder = new Decompress((data) => {
    // Copied, since the decoder uses its buffers again.
    if (data.byteLength > 0) output.push(data.slice());
  });
  let isEmpty = true;
  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.byteLength; start += ZSTD_PIECE_BYTES) {
      isEmpty = false;
      decoder.push(chunk.subarray(start, start + ZSTD_PIECE_BYTES), false);
      const ready = output;
      output = [];
      yield* ready;
    }
  }
  if (isEmpty) throw new Error("unexpected end of file");
  decoder.push(new Uint8Array(0), true);
  yield* output;
}

function asLayerError(error: unknown, what: string): FirectlError {
  if (error instanceof FirectlError && error.code !== "PROCESS_FAILED") return error;
  return new FirectlError("LAYER_INVALID", `${what} cannot be unpacked: ${messageOf(error)}`, {
    cause: error,
  });
}
