import { FirectlError } from "../core/errors.ts";
import { describeImage, type LocalImage, platformOfConfig } from "./local-image.ts";
import { parseImageConfig, parseManifest } from "./manifest.ts";
import { isManifest } from "./media-types.ts";
import type { ContentStore } from "./store/content-store.ts";
import type { IndexEntry } from "./store/index-file.ts";

/**
 * Describes an image from its blobs, for one that another tool has put into the store; undefined for what is
 * no whole image (an index, an artifact, missing blobs).
 */
export async function loadImage(
  store: ContentStore,
  entry: IndexEntry & { reference: string },
): Promise<LocalImage | undefined> {
  if (!isManifest(entry.mediaType)) return undefined;
  try {
    const parsed = parseManifest(await store.readBlob(entry), {
      mediaType: entry.mediaType,
      what: `the manifest of ${entry.reference}`,
    });
    if (parsed.kind !== "manifest") return undefined;
    const config = parseImageConfig(await store.readBlob(parsed.manifest.config), {
      layerCount: parsed.manifest.layers.length,
      what: `the configuration of ${entry.reference}`,
    });
    const identity = {
      reference: entry.reference,
      manifestDigest: entry.digest,
      manifestSize: entry.size,
      platform: entry.platform ?? platformOfConfig(config),
    };
    return describeImage(identity, parsed.manifest, config);
  } catch (error) {
    if (error instanceof FirectlError) return undefined;
    throw error;
  }
}

/**
 * The configuration as it was written, checked.
 * @throws FirectlError LAYER_INVALID, DIGEST_MISMATCH, MANIFEST_INVALID.
 */
export async function readRawConfig(store: ContentStore, image: LocalImage): Promise<unknown> {
  const size = await store.blobSize(image.configDigest);
  const bytes = await store.readBlob({ digest: image.configDigest, size });
  parseImageConfig(bytes, {
    layerCount: image.layers.length,
    what: `the configuration of ${image.reference}`,
  });
  return JSON.parse(Buffer.from(bytes).toString("utf8"));
}
