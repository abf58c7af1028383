import { digestHex } from "../../core/brands.ts";
import { type Descriptor, MAX_MANIFEST_BYTES } from "../manifest.ts";
import type { Platform } from "../platform.ts";
import type { RawManifest } from "../sources/copy-image.ts";
import { choosePlatformOf, nameOfEntry, parseLayoutIndex } from "../sources/layout-index.ts";
import type { BlobDescriptor } from "../store/content-store.ts";
import type { Archive } from "./archive.ts";
import { type ArchivedBlobs, type ArchivedImage, readBlob } from "./archived-image.ts";

/**
 * The images of a tar of an OCI image layout, as podman, skopeo and Docker since 25 write it.
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export async function ociImages(archive: Archive, platform: Platform): Promise<readonly ArchivedImage[]> {
  const byName = new Map<string, Descriptor[]>();
  for (const entry of await ociEntries(archive)) {
    const key = nameOfEntry(entry) ?? entry.digest;
    byName.set(key, [...(byName.get(key) ?? []), entry]);
  }
  const named = [...byName].flatMap(([key, entries]) => {
    const [first, ...others] = entries;
    const chosen = others.length === 0 ? first : (choosePlatformOf(entries, platform) ?? first);
    return chosen === undefined ? [] : [{ entry: chosen, name: key === chosen.digest ? undefined : key }];
  });
  const digests = new Set(named.map(({ entry }) => entry.digest));
  return [...digests].flatMap((digest) => {
    const same = named.filter(({ entry }) => entry.digest === digest);
    const [first] = same;
    if (first === undefined) return [];
    return [
      ociImage(
        archive,
        first.entry,
        same.flatMap(({ name }) => name ?? []),
      ),
    ];
  });
}

/** What `index.json` lists. */
export async function ociEntries(archive: Archive): Promise<readonly Descriptor[]> {
  const bytes = await archive.document("index.json", MAX_MANIFEST_BYTES);
  return parseLayoutIndex(bytes, archive.what("index.json"));
}

/** The image that one entry of `index.json` names. */
export function ociImage(archive: Archive, root: Descriptor, names: readonly string[]): ArchivedImage {
  return {
    names,
    isSame: async (known) => known.entry.origin === root.digest,
    open: async () => ociBlobs(archive, root),
  };
}

function ociBlobs(archive: Archive, root: Descriptor): ArchivedBlobs {
  const manifest = async (descriptor: Descriptor): Promise<RawManifest> => ({
    bytes: await archive.document(memberOf(descriptor), MAX_MANIFEST_BYTES),
    mediaType: descriptor.mediaType,
  });
  return {
    origin: {
      root: async (signal) => {
        signal.throwIfAborted();
        const raw = await manifest(root);
        const { verifyBytes } = await import("../sources/copy-image.ts");
        verifyBytes(raw.bytes, root);
        return raw;
      },
      manifest,
      blob: (blob, { offset, signal }) =>
        readBlob(archive, { member: memberOf(blob), size: blob.size, digest: blob.digest, offset, signal }),
    },
    memberOf: (digest) => `blobs/sha256/${digest.slice("sha256:".length)}`,
  };
}

function memberOf(blob: Pick<BlobDescriptor, "digest">): string {
  return `blobs/sha256/${digestHex(blob.digest)}`;
}
