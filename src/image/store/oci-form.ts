import type { Digest } from "../../core/brands.ts";
import { isManifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from "../media-types.ts";
import type { BlobDescriptor, ContentStore } from "./content-store.ts";
import { ingestBytes } from "./ingest.ts";

/** Docker's media types of layers, without what says how they are compressed. */
const DOCKER_LAYER = /^application\/vnd\.docker\.image\.rootfs\.(foreign\.)?diff\.tar(?:\.(gzip|zstd))?$/;
const OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/**
 * Puts the OCI form of a manifest of Docker's into the store, beside the original: skopeo and umoci see nothing
 * else in a layout. Configuration and layers are the same blobs. Undefined for what is OCI's already. The caller
 * holds the store.
 */
export async function storeOciForm(
  store: ContentStore,
  manifest: BlobDescriptor & { readonly mediaType: string },
): Promise<BlobDescriptor | undefined> {
  if (manifest.mediaType === OCI_MANIFEST || !isManifest(manifest.mediaType)) return undefined;
  // It was checked against the schema on its way in.
  const parsed = JSON.parse(Buffer.from(await store.readBlob(manifest)).toString("utf8")) as DockerManifest;
  const { schemaVersion, config, layers, annotations } = parsed;
  const converted = {
    schemaVersion,
    mediaType: OCI_MANIFEST,
    config: { ...config, mediaType: OCI_CONFIG },
    layers: layers.map((layer) => ({ ...layer, mediaType: ociLayerType(layer.mediaType) })),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return ingestBytes(store, Buffer.from(JSON.stringify(converted), "utf8"));
}

interface DockerManifest {
  readonly schemaVersion: number;
  readonly config: { readonly mediaType: string; readonly digest: Digest; readonly size: number };
  readonly layers: readonly { readonly mediaType: string; readonly digest: Digest; readonly size: number }[];
  readonly annotations?: unknown;
}

function ociLayerType(mediaType: string): string {
  const [match, foreign, compression] = DOCKER_LAYER.exec(mediaType) ?? [];
  if (match === undefined) return mediaType;
  const plain = foreign === undefined ? OCI_LAYER : OCI_FOREIGN_LAYER;
  return compression === undefined ? plain : `${plain}+${compression}`;
}
