import { constants } from "node:fs";
import { copyFile, type FileHandle, open, rm } from "node:fs/promises";
import path from "node:path";
import { digestHex } from "../../core/brands.ts";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { type Descriptor, MAX_MANIFEST_BYTES } from "../manifest.ts";
import type { LayoutLocation } from "../reference.ts";
import type { BlobDescriptor } from "../store/content-store.ts";
import { type BlobOrigin, copyImage, type RawManifest, verifyBytes } from "./copy-image.ts";
import { chooseEntry, parseLayoutIndex } from "./layout-index.ts";
import type { ImageSource, SourceContext, SourcedImage } from "./source.ts";

const READ_BYTES = 512 * 1024;

/**
 * Images of a directory in the OCI image layout, as skopeo, umoci and buildah write it. Everything is copied
 * (or cloned, where the filesystem can), so that the directory may go away afterwards.
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export class OciLayoutSource implements ImageSource {
  readonly reference: string;
  readonly #layout: LayoutLocation;

  constructor(reference: string, layout: LayoutLocation) {
    this.reference = reference;
    this.#layout = layout;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const { known } = context;
    const { path: directory, tag, digest } = this.#layout;
    let entries: readonly Descriptor[];
    try {
      entries = await readLayout(directory);
    } catch (error) {
      // The layout has gone, the copy has not.
      if (known !== undefined && error instanceof FirectlError && error.code === "FILE_NOT_FOUND")
        return known;
      throw error;
    }
    const where = `oci:${directory}`;
    const chosen = chooseEntry(entries, { where, tag, digest, platform: context.platform });
    if (known?.entry.origin === chosen.digest) return known;
    return copyImage(layoutOrigin(directory, chosen), this.reference, context);
  }
}

async function readLayout(directory: string): Promise<readonly Descriptor[]> {
  const file = path.join(directory, "index.json");
  return parseLayoutIndex(await readSmallFile(file), file);
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
