import { FirectlError } from "../core/errors.ts";
import { type CompressedBytes, decompress } from "./decompress.ts";
import { findDecompressor } from "./decompress-by-program.ts";
import type { LocalLayer } from "./local-image.ts";
import { layerCompression } from "./media-types.ts";
import type { ContentStore } from "./store/content-store.ts";
import type { GrowingBlob } from "./store/growing-blob.ts";

export interface OpenLayerOptions {
  readonly signal?: AbortSignal | undefined;
  /** More uncompressed bytes than this are refused. */
  readonly maxBytes?: number | undefined;
  /** `node` unpacks within this process; else a faster program that is on PATH may be used. */
  readonly decompressor?: "auto" | "node" | undefined;
}

/**
 * The uncompressed tar of a layer, from the store or, with `growing`, while it comes in. Its digest is verified
 * at the end: only an iteration that ends without an error has read what the image says.
 * @throws FirectlError LAYER_INVALID, DIGEST_MISMATCH.
 */
export async function* openLayer(
  layer: LocalLayer,
  options: OpenLayerOptions & {
    store: ContentStore;
    env: NodeJS.ProcessEnv;
    growing?: GrowingBlob | undefined;
  },
): AsyncGenerator<Uint8Array> {
  const { signal, growing } = options;
  const compression = layerCompression(layer.mediaType);
  if (compression === undefined) {
    throw new FirectlError(
      "LAYER_INVALID",
      `layer ${layer.digest} is of the unknown type ${layer.mediaType}`,
    );
  }
  const isNode = options.decompressor === "node";
  const program = isNode ? undefined : await findDecompressor(compression, options.env);
  const source: CompressedBytes =
    growing === undefined || growing.isHere
      ? { file: await options.store.openBlob(layer) }
      : { chunks: growing.chunks(signal) };
  yield* decompress(source, {
    compression,
    what: `layer ${layer.digest}`,
    diffId: layer.diffId,
    maxBytes: options.maxBytes,
    program,
    signal,
  });
}
