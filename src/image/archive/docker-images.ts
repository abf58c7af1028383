import * as z from "zod";
import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { MIB } from "../../core/units.ts";
import { type Descriptor, MAX_MANIFEST_BYTES, parseImageConfig } from "../manifest.ts";
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from "../media-types.ts";
import { normalisedReference, parseReference } from "../reference.ts";
import type { SourceContext } from "../sources/source.ts";
import { type BlobDescriptor, sha256 } from "../store/content-store.ts";
import { ingestStream } from "../store/ingest.ts";
import type { Archive, ArchiveFile } from "./archive.ts";
import { type ArchivedBlobs, type ArchivedImage, readBlob } from "./archived-image.ts";
import { compressionOf } from "./expand.ts";

/** As large as configurations of registries may be. */
const MAX_CONFIG_BYTES = 8 * MIB;

/** `manifest.json` of docker save, https://github.com/moby/docker-image-spec/blob/main/v1.2.md */
const manifestSchema = z
  .array(
    z.object({
      Config: z.string().max(4096),
      RepoTags: z.array(z.string()).max(1000).nullish(),
      Layers: z
        .array(z.string().max(4096))
        .max(1024)
        .nullish()
        .transform((list) => list ?? []),
    }),
  )
  .max(10_000);
type SavedImage = z.infer<typeof manifestSchema>[number];

/** The images that `manifest.json` lists, as Docker before 25, podman and skopeo write them. */
export async function dockerImages(archive: Archive): Promise<readonly ArchivedImage[]> {
  const bytes = await archive.document("manifest.json", MAX_MANIFEST_BYTES);
  const saved = parseSaved(archive, bytes);
  // Configurations are read one by one, when they are needed: a list may name many large ones.
  return saved.map((image) => ({
    names: (image.RepoTags ?? []).map((tag) => nameOf(archive, tag)),
    isSame: async (known) => known.image.configDigest === sha256(await readConfig(archive, image.Config)),
    open: async (context) =>
      dockerBlobs(archive, { image, config: await readConfig(archive, image.Config), context }),
  }));
}

function parseSaved(archive: Archive, bytes: Uint8Array): readonly SavedImage[] {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw archive.invalid("manifest.json", "it is not JSON");
  }
  const result = manifestSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw archive.invalid("manifest.json", `${issue?.path.join(".").slice(0, 80)}: ${issue?.message}`);
}

function nameOf(archive: Archive, tag: string): string {
  try {
    return normalisedReference(parseReference(tag));
  } catch {
    throw archive.invalid("manifest.json", `${JSON.stringify(tag.slice(0, 80))} is not an image's name`);
  }
}

async function readConfig(archive: Archive, member: string): Promise<Uint8Array> {
  const bytes = await archive.document(member, MAX_CONFIG_BYTES);
  // Docker, podman and skopeo name it by its digest; jib and others do not.
  const hex = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(member)?.[1];
  const digest = sha256(bytes);
  if (hex === undefined || digest === `sha256:${hex}`) return bytes;
  throw new FirectlError("DIGEST_MISMATCH", `${archive.what(member)}: it has the digest ${digest}`);
}

/** Makes the manifest that a registry would have had. */
async function dockerBlobs(
  archive: Archive,
  options: { image: SavedImage; config: Uint8Array; context: SourceContext },
): Promise<ArchivedBlobs> {
  const { image, config, context } = options;
  const { rootfs } = parseImageConfig(config, {
    layerCount: image.Layers.length,
    what: archive.what(image.Config),
  });
  const members = new Map<string, string>([[sha256(config), image.Config]]);
  const layers: Descriptor[] = [];
  for (const [index, member] of image.Layers.entries()) {
    const diffId = rootfs.diff_ids[index];
    if (diffId === undefined) throw new Error("the counts were compared");
    const layer = await describeLayer(archive, { file: archive.require(member), diffId, context });
    layers.push(layer);
    members.set(layer.digest, member);
  }
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: sha256(config), size: config.byteLength },
      layers,
    }),
  );
  return {
    origin: {
      root: async () => ({ bytes: manifest, mediaType: OCI_MANIFEST }),
      manifest: async () => {
        throw new Error("a manifest names no further ones");
      },
      blob: (blob, { offset, signal }) => {
        const member = members.get(blob.digest);
        if (member === undefined) throw new Error("every blob of the manifest has its member");
        return readBlob(archive, { member, size: blob.size, digest: blob.digest, offset, signal });
      },
    },
    memberOf: (digest) => members.get(digest),
  };
}

/** Layers are uncompressed as a rule, and then known by their diff_id. Docker takes compressed ones as well. */
async function describeLayer(
  archive: Archive,
  options: { file: ArchiveFile; diffId: Digest; context: SourceContext },
): Promise<Descriptor> {
  const { file, diffId, context } = options;
  const compression = compressionOf(await headOf(file));
  if (compression === "none") {
    if (file.digest !== undefined && file.digest !== diffId) {
      throw new FirectlError(
        "DIGEST_MISMATCH",
        `${archive.what(file.name)}: it has the digest ${file.digest}, expected ${diffId}`,
      );
    }
    return { mediaType: OCI_LAYER, digest: diffId, size: file.size };
  }
  if (compression !== "gzip" && compression !== "zstd") {
    throw archive.invalid(file.name, `a layer compressed by ${compression}`);
  }
  return { mediaType: `${OCI_LAYER}+${compression}`, ...(await blobOf(file, context)) };
}

async function blobOf(file: ArchiveFile, context: SourceContext): Promise<BlobDescriptor> {
  if (file.digest !== undefined) return { digest: file.digest, size: file.size };
  return ingestStream(context.store, file.read({ offset: 0, signal: context.signal }));
}

async function headOf(file: ArchiveFile): Promise<Uint8Array> {
  for await (const chunk of file.read({ offset: 0 })) return chunk;
  return new Uint8Array(0);
}
