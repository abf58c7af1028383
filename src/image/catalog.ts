import { FirectlError } from "../core/errors.ts";
import type { LocalImage } from "./local-image.ts";
import { isIndex } from "./media-types.ts";
import type { ContentStore } from "./store/content-store.ts";
import type { IndexEntry } from "./store/index-file.ts";

/** An image in the store, with what `index.json` says of it. */
export interface StoredImage {
  /** The name in full; undefined for an image whose name has gone to another, or that never had one. */
  readonly name: string | undefined;
  /** The name that has gone to another image. */
  readonly formerName: string | undefined;
  /** What the name resolved to: a registry's digest (the index's, where there is one), Docker's image id. */
  readonly origin: string | undefined;
  readonly entry: IndexEntry;
  readonly image: LocalImage;
}

/**
 * What the entries name. An index that another tool has put into the store counts as the images in it that are
 * here; what is no whole image is left out.
 */
export async function describeEntries(
  store: ContentStore,
  entries: readonly IndexEntry[],
): Promise<readonly StoredImage[]> {
  const described = await Promise.all(
    entries.map(async (entry) => {
      if (isIndex(entry.mediaType)) return imagesOfIndex(store, entry);
      const image = await describeEntry(store, entry);
      return image === undefined ? [] : [storedImage(entry, image)];
    }),
  );
  return described.flat();
}

/** What was derived when the image came in; derived now for one that another tool put into the store. */
async function describeEntry(store: ContentStore, entry: IndexEntry): Promise<LocalImage | undefined> {
  const reference = entry.reference ?? entry.digest;
  const text = await store.readDescription(entry.digest);
  const written = text === undefined ? undefined : parseDescription(text);
  if (written !== undefined) return { ...written, reference };
  const { loadImage } = await import("./load-image.ts");
  const image = await loadImage(store, { ...entry, reference });
  // For the next time; whoever may only read, or has a full disk, derives it again.
  if (image !== undefined) await store.writeDescription(entry.digest, JSON.stringify(image)).catch(() => {});
  return image;
}

function storedImage(entry: IndexEntry, image: LocalImage): StoredImage {
  const { reference: name, formerReference: formerName, origin } = entry;
  return { name, formerName, origin, entry, image };
}

async function imagesOfIndex(store: ContentStore, entry: IndexEntry): Promise<readonly StoredImage[]> {
  const { parseManifest } = await import("./manifest.ts");
  let manifests: readonly IndexEntry[];
  try {
    const { mediaType } = entry;
    const parsed = parseManifest(await store.readBlob(entry), { mediaType, what: `index ${entry.digest}` });
    if (parsed.kind !== "index") return [];
    manifests = parsed.index.manifests.map(({ mediaType, digest, size }) => ({
      mediaType,
      digest,
      size,
      reference: entry.reference,
      platform: undefined,
      origin: entry.digest,
    }));
  } catch (error) {
    if (error instanceof FirectlError) return [];
    throw error;
  }
  // No index within the index: no tool that writes layouts makes any.
  const images = await Promise.all(manifests.map((manifest) => describeEntry(store, manifest)));
  // What is BuildKit's attestation is for the platform "unknown".
  return images.flatMap((image) =>
    image === undefined || image.platform.os !== "linux"
      ? []
      : [storedImage({ ...entry, origin: entry.digest }, image)],
  );
}

function parseDescription(text: string): LocalImage | undefined {
  try {
    // Written by #record from a validated image, atomically, into a directory that is the user's alone.
    return JSON.parse(text) as LocalImage;
  } catch {
    return undefined;
  }
}
