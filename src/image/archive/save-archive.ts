import { type Digest, digestHex } from "../../core/brands.ts";
import { ioError } from "../../host/files.ts";
import { BARE_ENTRY, type TarEntry } from "../../tar/reader.ts";
import { type TarContent, writeTar } from "../../tar/writer.ts";
import type { StoredImage } from "../catalog.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../media-types.ts";
import { CONTAINERD_NAME, REF_NAME } from "../sources/layout-index.ts";
import type { BlobDescriptor, ContentStore } from "../store/content-store.ts";

/**
 * - `docker-archive`: an OCI layout with Docker's `manifest.json` beside it, as Docker writes since 25. docker load,
 *   podman load and skopeo read it.
 * - `oci-archive`: the OCI layout alone.
 */
export type ArchiveFormat = "docker-archive" | "oci-archive";

const READ_BYTES = 256 * 1024;

interface SavedImage {
  readonly digest: Digest;
  readonly size: number;
  readonly names: readonly string[];
  readonly stored: StoredImage;
}

/**
 * The archive of some images, each blob once and as it is stored. The same images give the same bytes.
 * @throws FirectlError LAYER_INVALID for a blob that is not in the store.
 */
export function saveArchive(
  store: ContentStore,
  images: readonly StoredImage[],
  options: { format: ArchiveFormat; signal?: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  return writeTar(contentsOf(store, mergeByDigest(images), options));
}

async function* contentsOf(
  store: ContentStore,
  images: readonly SavedImage[],
  options: { format: ArchiveFormat; signal?: AbortSignal | undefined },
): AsyncGenerator<TarContent> {
  yield { entry: directoryEntry("blobs/") };
  yield { entry: directoryEntry("blobs/sha256/") };
  for (const blob of blobsOf(images)) {
    options.signal?.throwIfAborted();
    yield {
      entry: fileEntry(memberOf(blob), blob.size),
      data: readBlob(store, blob, options.signal),
    };
  }
  yield document("index.json", indexOf(images, options.format));
  if (options.format === "docker-archive") yield document("manifest.json", dockerManifestOf(images));
  yield document("oci-layout", { imageLayoutVersion: "1.0.0" });
}

/** An image that is asked for by several names is there once, with all of them. */
function mergeByDigest(images: readonly StoredImage[]): readonly SavedImage[] {
  const merged = new Map<Digest, SavedImage>();
  for (const stored of images) {
    // Layouts hold OCI's manifests; one that came with Docker's has its OCI form beside it.
    const { digest, size } = stored.entry.ociForm ?? stored.entry;
    const names = merged.get(digest)?.names ?? [];
    const name = plainName(stored.name);
    merged.set(digest, {
      digest,
      size,
      stored,
      names: name === undefined || names.includes(name) ? names : [...names, name],
    });
  }
  return [...merged.values()];
}

/** The name that other tools understand: `docker:NAME` is NAME there, other transports name files. */
function plainName(name: string | undefined): string | undefined {
  const rest = name?.replace(/^docker:/, "");
  return rest === undefined || /^(?:oci|oci-archive|docker-archive|rootfs):/.test(rest) || rest.includes("@")
    ? undefined
    : rest;
}

function blobsOf(images: readonly SavedImage[]): readonly BlobDescriptor[] {
  const blobs = images.flatMap(({ digest, size, stored }) => {
    const { image, entry } = stored;
    const layerBytes = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    const config = { digest: image.configDigest, size: image.sizeBytes - layerBytes - entry.size };
    return [{ digest, size }, config, ...image.layers];
  });
  const unique = new Map(blobs.map(({ digest, size }) => [digest, { digest, size }]));
  return [...unique.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1));
}

/** Docker's index has one descriptor a name, whose ref.name is the tag; podman's ref.name is the name. */
function indexOf(images: readonly SavedImage[], format: ArchiveFormat): unknown {
  return {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: images.flatMap(({ digest, size, names, stored }) => {
      const descriptor = { mediaType: OCI_MANIFEST, digest, size, platform: stored.image.platform };
      if (names.length === 0) return [descriptor];
      return names.map((name) => ({
        ...descriptor,
        annotations: {
          [CONTAINERD_NAME]: name,
          [REF_NAME]: format === "docker-archive" ? name.slice(name.lastIndexOf(":") + 1) : name,
        },
      }));
    }),
  };
}

function dockerManifestOf(images: readonly SavedImage[]): unknown {
  return images.map(({ names, stored }) => ({
    Config: memberOf({ digest: stored.image.configDigest }),
    // In full, as skopeo writes them: podman takes "app" for "localhost/app".
    RepoTags: names.length === 0 ? null : names,
    Layers: stored.image.layers.map(memberOf),
  }));
}

function memberOf(blob: Pick<BlobDescriptor, "digest">): string {
  return `blobs/sha256/${digestHex(blob.digest)}`;
}

async function* readBlob(
  store: ContentStore,
  blob: BlobDescriptor,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const handle = await store.openBlob(blob);
  const chunks: AsyncIterable<Uint8Array> = handle.createReadStream({
    highWaterMark: READ_BYTES,
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    yield* chunks;
  } catch (error) {
    signal?.throwIfAborted();
    throw ioError(`cannot read blob ${blob.digest}`, error);
  }
}

function document(name: string, value: unknown): TarContent {
  const bytes = Buffer.from(JSON.stringify(value), "utf8");
  return { entry: fileEntry(name, bytes.length), data: [bytes] };
}

const ENTRY = {
  ...BARE_ENTRY,
  uid: 0,
  gid: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  atimeSec: 0,
  atimeNsec: 0,
} as const;

function directoryEntry(path: string): TarEntry {
  return { ...ENTRY, type: "directory", path, size: 0, mode: 0o755 };
}

function fileEntry(path: string, size: number): TarEntry {
  return { ...ENTRY, type: "file", path, size, mode: 0o644 };
}
