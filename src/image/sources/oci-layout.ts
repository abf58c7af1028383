import { constants } from "node:fs";
import { copyFile, type FileHandle, open, rm } from "node:fs/promises";
import path from "node:path";
import { digestHex } from "../../core/brands.ts";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { type Descriptor, MAX_MANIFEST_BYTES, parseManifest } from "../manifest.ts";
import { choosePlatform, normalise, type Platform } from "../platform.ts";
import type { BlobDescriptor } from "../store/content-store.ts";
import { type BlobOrigin, copyImage, type RawManifest, verifyBytes } from "./copy-image.ts";
import type { ImageSource, SourceContext, SourcedImage } from "./source.ts";

const REF_NAME = "org.opencontainers.image.ref.name";
const READ_BYTES = 512 * 1024;
/** An error lists no more tags than this. */
const MAX_LISTED_TAGS = 20;

/**
 * Images of a directory in the OCI image layout, as skopeo, umoci and buildah write it. Everything is copied
 * (or cloned, where the filesystem can), so that the directory may go away afterwards.
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export class OciLayoutSource implements ImageSource {
  readonly reference: string;
  readonly #directory: string;
  readonly #tag: string | undefined;

  constructor(reference: string, layout: { directory: string; tag: string | undefined }) {
    this.reference = reference;
    this.#directory = layout.directory;
    this.#tag = layout.tag;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const { known } = context;
    let entries: readonly Descriptor[];
    try {
      entries = await readLayout(this.#directory);
    } catch (error) {
      // The layout has gone, the copy has not.
      if (known !== undefined && error instanceof FirectlError && error.code === "FILE_NOT_FOUND")
        return known;
      throw error;
    }
    const chosen = chooseEntry(entries, { ...this.#options(), platform: context.platform });
    if (known?.entry.origin === chosen.digest) return known;
    return copyImage(layoutOrigin(this.#directory, chosen), this.reference, context);
  }

  #options(): { directory: string; tag: string | undefined } {
    return { directory: this.#directory, tag: this.#tag };
  }
}

async function readLayout(directory: string): Promise<readonly Descriptor[]> {
  const file = path.join(directory, "index.json");
  const bytes = await readSmallFile(file);
  const parsed = parseManifest(bytes, { mediaType: "application/vnd.oci.image.index.v1+json", what: file });
  return parsed.kind === "index" ? parsed.index.manifests : [];
}

function chooseEntry(
  entries: readonly Descriptor[],
  options: { directory: string; tag: string | undefined; platform: Platform },
): Descriptor {
  const { directory, tag } = options;
  const candidates = tag === undefined ? entries : entries.filter((entry) => tagOf(entry) === tag);
  const [first] = candidates;
  if (first === undefined) {
    const what = tag === undefined ? "holds no image" : `holds no image tagged ${JSON.stringify(tag)}`;
    throw new FirectlError("IMAGE_NOT_FOUND", `${directory} ${what}${listTags(entries)}`);
  }
  const tags = new Set(candidates.map(tagOf));
  const digests = new Set(candidates.map((entry) => entry.digest));
  if (digests.size === 1) return first;
  if (tags.size > 1) {
    throw new FirectlError(
      "AMBIGUOUS_NAME",
      `${directory} holds ${digests.size} images${listTags(entries)}`,
      {
        hint: `name one: oci:${directory}:TAG`,
      },
    );
  }
  // One name for several platforms.
  const platforms = candidates.map((entry) =>
    normalise(
      entry.platform?.os ?? "unknown",
      entry.platform?.architecture ?? "unknown",
      entry.platform?.variant,
    ),
  );
  const index = choosePlatform(options.platform, platforms);
  return index === undefined ? first : (candidates[index] ?? first);
}

function tagOf(entry: Descriptor): string | undefined {
  return entry.annotations?.[REF_NAME];
}

function listTags(entries: readonly Descriptor[]): string {
  const tags = [...new Set(entries.flatMap((entry) => tagOf(entry) ?? []))].sort();
  if (tags.length === 0) return "";
  const shown = tags.slice(0, MAX_LISTED_TAGS).map((tag) => JSON.stringify(tag.slice(0, 128)));
  return `; its tags are ${shown.join(", ")}${tags.length > shown.length ? ", …" : ""}`;
}

function layoutOrigin(directory: string, root: Descriptor): BlobOrigin {
  const fileOf = (blob: BlobDescriptor): string =>
    path.join(directory, "blobs", "sha256", digestHex(blob.digest));
  const readManifest = async (descriptor: Descriptor): Promise<RawManifest> => {
    const bytes = await readSmallFile(fileOf(descriptor));
    verifyBytes(bytes, descriptor);
    return { bytes, mediaType: descriptor.mediaType };
  };
  return {
    root: () => readManifest(root),
    manifest: readManifest,
    blob: (blob, { offset, signal }) => readFrom(fileOf(blob), { offset, signal }),
    clone: (blob, file) => cloneFile(fileOf(blob), file),
  };
}

async function* readFrom(
  file: string,
  options: { offset: number; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const handle = await openFile(file);
  const chunks: AsyncIterable<Uint8Array> = handle.createReadStream({
    start: options.offset,
    highWaterMark: READ_BYTES,
    signal: options.signal,
  });
  try {
    yield* chunks;
  } catch (error) {
    options.signal.throwIfAborted();
    throw ioError(`cannot read ${file}`, error);
  }
}

/** Shares the file's blocks where the filesystem can; what was cloned is verified like anything else. */
async function cloneFile(from: string, to: string): Promise<boolean> {
  const handle = await openFile(from);
  await handle.close();
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    await rm(to, { force: true });
    return false;
  }
}

async function readSmallFile(file: string): Promise<Uint8Array> {
  const handle = await openFile(file);
  try {
    const { size } = await handle.stat();
    if (size > MAX_MANIFEST_BYTES) {
      throw new FirectlError(
        "MANIFEST_INVALID",
        `${file} has ${size} bytes, at most ${MAX_MANIFEST_BYTES} are read`,
      );
    }
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Opens a regular file and nothing else: a FIFO in its place would block for ever. */
async function openFile(file: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENOTDIR")
      throw ioError(`cannot open ${file}`, error);
    throw new FirectlError("FILE_NOT_FOUND", `there is no ${file}`, {
      hint: "an OCI image layout is a directory with index.json and blobs/sha256",
      cause: error,
    });
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new FirectlError("LAYER_INVALID", `${file} is not a regular file`);
}
