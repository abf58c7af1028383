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
 * read what the image says. A blob that has been damaged in the store goes, see {@link ContentStore.verifyBlob};
 * whoever stops reading because the tar makes no sense must ask for that.
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
  const source = growing ?? (await GrowingBlob.inStore(options.store, layer));
  try {
    yield* decompress(source, {
      compression,
      what: `layer ${layer.digest}`,
      diffId: layer.diffId,
      worker: workerFile(),
      signal,
    });
  } catch (error) {
    // Bytes that came wrong are what is wrong, not what was found in them: the download will say so.
    await growing?.whole(signal);
    // Those of the store may have become wrong since they came.
    if (isAboutBytes(error)) await options.store.verifyBlob(layer.digest, signal);
    throw error;
  }
}

function isAboutBytes(error: unknown): boolean {
  return error instanceof FirectlError && /^(DIGEST_MISMATCH|LAYER_INVALID)$/.test(error.code);
}
