import { rename, rm } from "node:fs/promises";
import path from "node:path";
import type { Digest } from "../core/brands.ts";
import { digestHex } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { sha256Hex } from "../core/sha256.ts";
import { withFileLock } from "../host/file-lock.ts";
import { exists, ioError, makePrivateDirectory, syncDirectory } from "../host/files.ts";
import { randomUuid } from "../host/random.ts";
import type { Images, LocalImage, OpenLayer } from "../image/images.ts";
import type { ImageLimits, ProgressEvent } from "./api.ts";
import { baseDirectoryOf, baseLock } from "./base-files.ts";
import type { Context } from "./context.ts";

/** Changes whenever the writer's output for the same layers does: older base images are then built anew. */
const FORMAT_VERSION = 3;

/** Building the base of a large image on a slow disk takes minutes; whoever waits for it waits that long. */
const BUILD_LOCK_TIMEOUT_MS = 30 * 60_000;

export interface BaseOptions {
  /** Present for `--storage copy`: the size of the writable filesystem. */
  readonly writableBytes?: number | undefined;
  readonly limits?: ImageLimits | undefined;
  /** Gives the layers while they still come in; the store's, which has them all, unless given. */
  readonly open?: OpenLayer | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}

export interface BaseImage {
  readonly path: string;
  /** False when it was there already. */
  readonly built: boolean;
}

/**
 * The filesystem image of `image`, built if no process has built it before. Processes that want the same one
 * at the same time build it once.
 */
export async function obtainBaseImage(
  context: Context,
  image: LocalImage,
  options: BaseOptions,
): Promise<BaseImage> {
  const key = baseKeyOf(image);
  const name = options.writableBytes === undefined ? key : `${key}-${options.writableBytes}`;
  const target = path.join(baseDirectoryOf(context), `${name}.ext4`);
  if (await exists(target)) return { path: target, built: false };
  await makePrivateDirectory(path.dirname(target));
  const images = await context.images();
  const { signal } = options;
  // Held: nobody collects the layers while they are read, nor the lock while it is waited for.
  return images.hold(signal, async () => {
    const lock = await baseLock(context, name);
    return withFileLock(lock, { timeoutMs: BUILD_LOCK_TIMEOUT_MS, signal }, async () => {
      if (await exists(target)) return { path: target, built: false };
      await build(images, { image, target, key, base: options });
      return { path: target, built: true };
    });
  });
}

/** Hexadecimal name of an image's base: the same layers in the same order give the same one. */
export function baseKeyOf(image: LocalImage, writableBytes?: number): string {
  const kind = `firectl base ${FORMAT_VERSION} ${writableBytes ?? "read-only"}`;
  return sha256Hex([kind, ...image.layers.map(({ diffId }) => diffId), ""].join("\n"));
}

async function build(
  images: Images,
  options: { image: LocalImage; target: string; key: string; base: BaseOptions },
): Promise<void> {
  const { image, base } = options;
  const { buildRootfs } = await import("../rootfs/build-rootfs.ts");
  const temporary = `${options.target}.${randomUuid()}.tmp`;
  const open: OpenLayer = base.open ?? ((layer, how) => images.openLayer(layer, how));
  try {
    try {
      const { notice } = await buildRootfs({
        layers: image.layers.map((layer) => ({
          name: shortDigest(layer.digest),
          open: (signal) => open(layer, { signal }),
        })),
        path: temporary,
        uuid: uuidOf(options.key),
        limits: base.limits,
        writable: base.writableBytes === undefined ? undefined : { sizeBytes: base.writableBytes },
        signal: base.signal,
        onProgress: (readBytes) => base.onProgress?.({ kind: "building", readBytes, totalBytes: undefined }),
      });
      if (notice !== undefined) base.onProgress?.({ kind: "notice", message: notice });
    } catch (error) {
      // A tar that makes no sense is mostly a blob with a wrong bit in it, and reading ends before its digest is.
      if (isLayerInvalid(error)) await images.verifyLayers(image, base.signal);
      throw error;
    }
    await putInPlace(temporary, options.target);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function putInPlace(built: string, target: string): Promise<void> {
  try {
    await rename(built, target);
    await syncDirectory(path.dirname(target));
  } catch (error) {
    throw ioError(`cannot put the filesystem ${target} in its place`, error);
  }
}

function isLayerInvalid(error: unknown): boolean {
  return error instanceof FirectlError && error.code === "LAYER_INVALID";
}

/** A version 8 UUID (RFC 9562) made of the key, so that the same image gives the same bytes. */
function uuidOf(key: string): string {
  const variant = ((Number.parseInt(key.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return `${key.slice(0, 8)}-${key.slice(8, 12)}-8${key.slice(13, 16)}-${variant}${key.slice(17, 20)}-${key.slice(20, 32)}`;
}

function shortDigest(digest: Digest): string {
  return `sha256:${digestHex(digest).slice(0, 12)}`;
}
