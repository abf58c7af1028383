import { familiarName, nameParts } from "../image/image-names.ts";
import type { Selection, StoredImage } from "../image/images.ts";
import { choosePlatform, hostPlatform } from "../image/platform.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { listBaseFiles } from "./base-files.ts";
import { baseKeyOf } from "./base-image.ts";
import type { Context } from "./context.ts";
import { usersOf } from "./image-usage.ts";
import { diskBytesOf } from "./images.ts";

/**
 * An image in the fields of `docker image inspect`, `Config` as the image has it, and our own after them. Of
 * an image with several platforms here, the one for this machine.
 * @throws FirectlError IMAGE_NOT_FOUND, INVALID_REFERENCE, AMBIGUOUS_NAME, LAYER_INVALID.
 */
export async function inspectImage(
  context: Context,
  records: readonly VmRecord[],
  reference: string,
): Promise<Readonly<Record<string, unknown>>> {
  const images = await context.images();
  const stored = best(await images.select(reference));
  const [all, blobs, bases, raw] = await Promise.all([
    images.list(),
    images.blobSizes(),
    listBaseFiles(context),
    images.rawConfig(stored.image),
  ]);
  const { image, entry } = stored;
  const sameImage = all.filter((other) => other.image.manifestDigest === image.manifestDigest);
  const config = fieldsOf(raw);
  const key = baseKeyOf(image);
  return {
    Id: image.manifestDigest,
    RepoTags: tagsOf(sameImage),
    RepoDigests: digestsOf(sameImage),
    Comment: config["comment"] ?? "",
    Created: image.createdAt ?? "",
    Author: config["author"] ?? "",
    Config: config["config"] ?? {},
    Architecture: image.platform.architecture,
    ...(image.platform.variant === undefined ? {} : { Variant: image.platform.variant }),
    Os: image.platform.os,
    Size: image.sizeBytes,
    RootFS: { Type: "layers", Layers: image.layers.map(({ diffId }) => diffId) },
    History: config["history"] ?? [],
    ConfigDigest: image.configDigest,
    MediaType: entry.mediaType,
    Origin: stored.origin ?? "",
    Layers: image.layers.map(({ digest, mediaType, size }) => ({
      Digest: digest,
      MediaType: mediaType,
      Size: size,
    })),
    DiskSize: diskBytesOf(stored, { blobs, bases }),
    Filesystems: bases
      .filter((base) => base.key === key && !base.isUnfinished)
      .map(({ path, diskBytes }) => ({ Path: path, DiskSize: diskBytes })),
    VMs: vmsOf(sameImage, records),
  };
}

function best({ items }: Selection<StoredImage>): StoredImage {
  const platforms = items.map(({ image }) => image.platform);
  const chosen = items[choosePlatform(hostPlatform(), platforms) ?? 0];
  if (chosen === undefined) throw new Error("a selection is not empty");
  return chosen;
}

function tagsOf(stored: readonly StoredImage[]): readonly string[] {
  return unique(stored.flatMap(({ name }) => (name === undefined ? [] : [familiarName(name)])));
}

/** `nginx@sha256:…`, the digest that the registry has for the name. */
function digestsOf(stored: readonly StoredImage[]): readonly string[] {
  return unique(
    stored.flatMap(({ name, formerName, origin }) => {
      const known = name ?? formerName;
      const isRegistrys = known !== undefined && origin !== undefined && !/^[a-z-]+:(?!\d)/.test(known);
      return isRegistrys ? [`${nameParts(known).repository}@${origin}`] : [];
    }),
  );
}

function vmsOf(
  stored: readonly StoredImage[],
  records: readonly VmRecord[],
): readonly { Id: string; Name: string; State: string }[] {
  const users = new Set(stored.flatMap((each) => usersOf(each, records)));
  return [...users].map(({ id, name, state }) => ({ Id: id, Name: name, State: state }));
}

function unique(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)];
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  // A configuration that has been parsed is an object.
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
