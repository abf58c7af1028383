import { FirectlError } from "../../core/errors.ts";
import type { Archive } from "../archive/archive.ts";
import { type ArchivedImage, bringArchived } from "../archive/archived-image.ts";
import { imagesIn } from "../archive/images-in.ts";
import { withArchive } from "../archive/open-archive.ts";
import { everyMebibyte } from "../progress.ts";
import { type DockerArchiveLocation, type LayoutLocation, normalisedReference } from "../reference.ts";
import type { ImageSource, SourceContext, SourcedImage } from "./source.ts";

/**
 * Images of archives, as docker, podman and skopeo save them. They are read each time: what the file holds now
 * is what is meant. Once copied, an image outlives its archive.
 */
export class ArchiveSource implements ImageSource {
  readonly reference: string;
  readonly #location: LayoutLocation | DockerArchiveLocation;

  constructor(reference: string, location: LayoutLocation | DockerArchiveLocation) {
    this.reference = reference;
    this.#location = location;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const { known, store, env, signal } = context;
    const { reference } = this;
    const onReceived = everyMebibyte((received) =>
      context.onProgress({ type: "reading", reference, received }),
    );
    try {
      return await withArchive(
        { file: this.#location.path },
        { store, env, signal, onReceived },
        async (archive) => {
          const image = await this.#choose(archive, context);
          if (known !== undefined && (await image.isSame(known))) return known;
          return bringArchived(archive, { image, reference, context });
        },
      );
    } catch (error) {
      // The archive has gone, the copy has not.
      const isGone = error instanceof FirectlError && error.code === "FILE_NOT_FOUND";
      if (known !== undefined && isGone) return known;
      throw error;
    }
  }

  #choose(archive: Archive, context: SourceContext): Promise<ArchivedImage> {
    return this.#location.transport === "docker-archive"
      ? chooseSaved(archive, { ...context, location: this.#location })
      : chooseOci(archive, { ...context, location: this.#location });
  }
}

async function chooseOci(
  archive: Archive,
  options: Pick<SourceContext, "platform"> & { location: LayoutLocation },
): Promise<ArchivedImage> {
  const { location, platform } = options;
  const where = `${location.transport}:${location.path}`;
  if (archive.find("index.json") === undefined && archive.find("manifest.json") !== undefined) {
    throw new FirectlError("ARCHIVE_INVALID", `archive ${archive.label}: it is not an OCI archive`, {
      hint: `it was made by docker save: write docker-archive:${location.path}`,
    });
  }
  const { ociEntries, ociImage } = await import("../archive/oci-images.ts");
  const { chooseEntry } = await import("./layout-index.ts");
  const { tag, digest } = location;
  return ociImage(archive, chooseEntry(await ociEntries(archive), { where, tag, digest, platform }), []);
}

async function chooseSaved(
  archive: Archive,
  options: Pick<SourceContext, "platform"> & { location: DockerArchiveLocation },
): Promise<ArchivedImage> {
  const { image: wanted, path } = options.location;
  const images = await imagesIn(archive, options.platform);
  const names = images.flatMap((image) => image.names);
  const list = names.length === 0 ? "" : `; its images are ${names.slice(0, 20).join(", ")}`;
  if (typeof wanted === "number") {
    const image = images[wanted];
    if (image !== undefined) return image;
    throw new FirectlError(
      "IMAGE_NOT_FOUND",
      `${path} holds no image number ${wanted}: it has ${images.length}, counted from 0`,
    );
  }
  const name = wanted === undefined ? undefined : normalisedReference(wanted);
  const candidates = name === undefined ? images : images.filter((image) => image.names.includes(name));
  const [first, ...others] = candidates;
  if (first === undefined) {
    throw new FirectlError(
      "IMAGE_NOT_FOUND",
      `${path} holds no image${name === undefined ? "" : ` ${name}`}${list}`,
    );
  }
  if (others.length > 0) {
    throw new FirectlError("AMBIGUOUS_NAME", `${path} holds ${candidates.length} images${list}`, {
      hint: `name one: docker-archive:${path}:NAME, or docker-archive:${path}:@0`,
    });
  }
  return first;
}
