import { FirectlError } from "../core/errors.ts";
import { decompress } from "./decompress.ts";
import type { LocalLayer } from "./local-image.ts";
import { layerCompression } from "./media-types.ts";
import type { ContentStore } from "./store/content-store.ts";
import { GrowingBlob } from "./store/growing-blob.ts";
import { workerFile } from "./unpack/in-worker.ts";

export interface OpenLayerOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * The uncompressed tar of a layer, from the store or, with `growing`, while it comes in; a chunk is valid until
 * the next one is asked for. Its digest is verified at the end: only an iteration that ends without an error has
 * read what the image says.
 * @throws FirectlError LAYER_INVALID, DIGEST_MISMATCH.
 */
export async function* openLayer(
  layer: LocalLayer,
  options: OpenLayerOptions & { store: ContentStore; growing?: GrowingBlob | undefined },
): AsyncGenerator<Uint8Array> {
  const compression = layerCompression(layer.mediaType);
  if (compression === undefined) {
    throw new FirectlError(
      "LAYER_INVALID",
      `layer ${layer.digest} is of the unknown type ${layer.mediaType}`,
    );
  }
  const { signal, growing } = options;
  try {
    yield* decompress(growing ?? (await GrowingBlob.inStore(options.store, layer)), {
      compression,
      what: `layer ${layer.digest}`,
      diffId: layer.diffId,
      worker: workerFile(),
      signal,
    });
  } catch (error) {
    // Bytes that came wrong are what is wrong, not what was found in them: the download will say so.
    await growing?.whole(signal);
    throw error;
  }
}
