import { FirectlError } from "../core/errors.ts";
import type { LocalImage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ImageSummary, ProgressEvent } from "./api.ts";
import { removeBases } from "./base-files.ts";
import { baseKeyOf } from "./base-image.ts";
import type { Context } from "./context.ts";
import { reportPull } from "./pull-progress.ts";

/** Brings an image into the local store, newer than the one that is there. */
export async function pullImage(
  context: Context,
  reference: string,
  options: { platform?: string; signal?: AbortSignal; onProgress?: (event: ProgressEvent) => void },
): Promise<ImageSummary> {
  const images = await context.images();
  const image = await images.obtain(reference, {
    pull: "always",
    platform: options.platform,
    signal: options.signal,
    onProgress: reportPull(options.onProgress),
  });
  return summaryOf(image, []);
}

/** The images in the local store. */
export async function listImages(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly ImageSummary[]> {
  return (await (await context.images()).list()).map((image) => summaryOf(image, records));
}

/**
 * Removes an image from the local store, with the filesystems built from images that are gone.
 * @throws FirectlError WRONG_STATE while a VM uses it, IMAGE_NOT_FOUND.
 */
export async function removeImage(
  context: Context,
  records: readonly VmRecord[],
  reference: string,
): Promise<void> {
  const images = await context.images();
  const image = await images.find(reference);
  const [user] = image === undefined ? [] : usersOf(image, records);
  if (user !== undefined) {
    throw new FirectlError("WRONG_STATE", `cannot remove ${reference}: VM ${user.name} was made from it`, {
      hint: `firectl rm ${user.name}`,
    });
  }
  await images.remove(reference);
  // A VM under way has a base that its record does not name yet: then the bases wait for the next removal.
  if (records.some(({ state }) => state === "creating")) return;
  const keys = new Set((await images.list()).map(baseKeyOf));
  const files = new Set(records.flatMap(({ machine }) => machine?.drives.map((drive) => drive.path) ?? []));
  await removeBases(context, ({ path, key }) => keys.has(key ?? "") || files.has(path));
}

function summaryOf(image: LocalImage, records: readonly VmRecord[]): ImageSummary {
  const { os, architecture, variant } = image.platform;
  return {
    reference: image.reference,
    digest: image.manifestDigest,
    platform: [os, architecture, ...(variant === undefined ? [] : [variant])].join("/"),
    createdAt: image.createdAt,
    sizeBytes: image.sizeBytes,
    usedBy: usersOf(image, records).map(({ id }) => id),
  };
}

function usersOf(image: LocalImage, records: readonly VmRecord[]): readonly VmRecord[] {
  return records.filter(
    ({ imageName, imageDigest }) => imageName === image.reference && imageDigest === image.manifestDigest,
  );
}
