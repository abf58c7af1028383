import { createHash } from "node:crypto";
import type { Digest } from "../core/brands.ts";
import { FirectlError, messageOf } from "../core/errors.ts";
import type { Compression } from "./media-types.ts";
import { digestOf } from "./store/content-store.ts";
import { GrowingBlob } from "./store/growing-blob.ts";
import { unpackHere } from "./unpack/here.ts";
import { unpackInWorker } from "./unpack/in-worker.ts";

/** A blob of the store, or any bytes; `signal` ends the iteration. */
export type CompressedBytes =
  | GrowingBlob
  | { readonly chunks: (signal: AbortSignal | undefined) => AsyncIterable<Uint8Array> };

export interface DecompressOptions {
  readonly compression: Compression;
  /** Names it in errors: `layer sha256:…`. */
  readonly what: string;
  /** Digest that the decompressed bytes must have. */
  readonly diffId: Digest;
  /** The program of a thread that unpacks blobs of the store; this thread does it unless given. */
  readonly worker?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The uncompressed bytes of a layer. Its digest is checked at the end, so what was yielded counts only when
 * the iteration ends without an error. A chunk is valid until the next one is asked for. Leaving the iteration
 * early, or aborting, frees everything; how much is too much is the reader's to say.
 * @throws FirectlError LAYER_INVALID for a stream that is damaged, DIGEST_MISMATCH.
 */
export async function* decompress(
  source: CompressedBytes,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash("sha256");
  try {
    options.signal?.throwIfAborted();
    for await (const chunk of decoded(source, options)) {
      hash.update(chunk);
      yield chunk;
      options.signal?.throwIfAborted();
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    throw asLayerError(error, options.what);
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
  const { compression, worker, signal } = options;
  if (compression === "none") return source.chunks(signal);
  return worker !== undefined && source instanceof GrowingBlob
    ? unpackInWorker(source, { compression, file: worker, signal })
    : unpackHere(source.chunks(signal), compression);
}

function asLayerError(error: unknown, what: string): FirectlError {
  if (error instanceof FirectlError && error.code !== "PROCESS_FAILED") return error;
  return new FirectlError("LAYER_INVALID", `${what} cannot be unpacked: ${messageOf(error)}`, {
    cause: error,
  });
}
