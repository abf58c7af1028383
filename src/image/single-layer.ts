import { describeImage } from "./local-image.ts";
import { parseImageConfig, parseManifest } from "./manifest.ts";
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from "./media-types.ts";
import type { Platform } from "./platform.ts";
import type { SourcedImage } from "./sources/source.ts";
import type { BlobDescriptor, ContentStore } from "./store/content-store.ts";
import { ingestBytes } from "./store/ingest.ts";

export interface SingleLayerOptions {
  /** An uncompressed tar that is in the store. */
  readonly layer: BlobDescriptor;
  readonly reference: string;
  /** What it was made of, where that can be asked for again; see IndexEntry. */
  readonly origin?: string | undefined;
  readonly platform: Platform;
  /** The `config` of the image configuration, in its spelling. */
  readonly config: Readonly<Record<string, unknown>>;
  /** RFC 3339. */
  readonly created?: string | undefined;
  /** What `history` says of the layer. */
  readonly comment?: string | undefined;
}

/**
 * Makes the manifest and configuration for an image of one layer. The same input gives the same digests. The
 * caller holds the store.
 * @throws FirectlError MANIFEST_INVALID when `config` is not that of an image.
 */
export async function makeSingleLayerImage(
  store: ContentStore,
  options: SingleLayerOptions,
): Promise<SourcedImage> {
  const { layer, reference, origin, platform, created, comment } = options;
  const time = created === undefined ? {} : { created };
  const configBytes = encode({
    ...time,
    ...platform,
    config: options.config,
    rootfs: { type: "layers", diff_ids: [layer.digest] },
    ...(comment === undefined ? {} : { history: [{ ...time, comment }] }),
  });
  const what = `the configuration of ${reference}`;
  const config = parseImageConfig(configBytes, { layerCount: 1, what });
  const configBlob = await ingestBytes(store, configBytes);
  const manifestBytes = encode({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: OCI_CONFIG, ...configBlob },
    layers: [{ mediaType: OCI_LAYER, ...layer }],
  });
  const parsed = parseManifest(manifestBytes, { what });
  if (parsed.kind !== "manifest") throw new Error("a manifest was made");
  const { digest, size } = await ingestBytes(store, manifestBytes);
  return {
    entry: { mediaType: OCI_MANIFEST, digest, size, reference, platform, origin },
    image: describeImage(
      { reference, manifestDigest: digest, manifestSize: size, platform },
      parsed.manifest,
      config,
    ),
  };
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value), "utf8");
}
