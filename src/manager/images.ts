import { familiarName, nameParts } from "../image/image-names.ts";
import type { LocalImage, StoredImage } from "../image/images.ts";
import { formatPlatform, hostPlatform, parsePlatform } from "../image/platform.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ImageSummary, PullOptions } from "./api.ts";
import { type BaseFile, listBaseFiles } from "./base-files.ts";
import { baseKeyOf } from "./base-image.ts";
import type { Context } from "./context.ts";
import { obtainImageFilesystem } from "./image-filesystem.ts";
import { blobsOf, usersOf } from "./image-usage.ts";
import { reportPull } from "./pull-progress.ts";

/** Brings an image into the local store, newer than the one that is there, and builds its filesystem. */
export async function pullImage(
  context: Context,
  reference: string,
  options: PullOptions,
): Promise<ImageSummary> {
  const { platform, limits, signal, onProgress } = options;
  const wanted = { pull: "always", platform, signal } as const;
  const isForeign =
    platform !== undefined && parsePlatform(platform).architecture !== hostPlatform().architecture;
  const image =
    options.build === false || isForeign
      ? await (await context.images()).obtain(reference, { ...wanted, onProgress: reportPull(onProgress) })
      : (await obtainImageFilesystem(context, reference, { ...wanted, limits, onProgress })).image;
  return summaryOfPulled(context, image);
}

/** The images in the local store, those without a name too. */
export async function listImages(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly ImageSummary[]> {
  const images = await context.images();
  const [stored, blobs, bases] = await Promise.all([
    images.list(),
    images.blobSizes(),
    listBaseFiles(context),
  ]);
  return stored.map((each) => summaryOf(each, { records, blobs, bases }));
}

/** Gives an image a further name; returns that in full. */
export async function tagImage(context: Context, source: string, target: string): Promise<string> {
  return (await context.images()).tag(source, target);
}

async function summaryOfPulled(context: Context, image: LocalImage): Promise<ImageSummary> {
  const summaries = await listImages(context, await context.vms.read());
  const found = summaries.find(
    ({ reference, digest }) => reference === image.reference && digest === image.manifestDigest,
  );
  if (found !== undefined) return found;
  // Somebody has removed it, or named another image so, since.
  return { ...describe(image), diskBytes: 0, usedBy: [], dangling: true };
}

interface Surroundings {
  readonly records: readonly VmRecord[];
  /** Real blocks of each blob. */
  readonly blobs: ReadonlyMap<string, number>;
  readonly bases: readonly BaseFile[];
}

function summaryOf(stored: StoredImage, surroundings: Surroundings): ImageSummary {
  const { name, formerName, image } = stored;
  return {
    ...describe(image),
    ...(name === undefined
      ? {
          repository: formerName === undefined ? undefined : nameParts(formerName).repository,
          tag: undefined,
        }
      : nameParts(name)),
    dangling: name === undefined,
    diskBytes: diskBytesOf(stored, surroundings),
    usedBy: usersOf(stored, surroundings.records).map(({ id }) => id),
  };
}

function describe(image: LocalImage): Omit<ImageSummary, "diskBytes" | "usedBy" | "dangling"> {
  return {
    reference: image.reference,
    ...nameParts(familiarName(image.reference)),
    digest: image.manifestDigest,
    platform: formatPlatform(image.platform),
    createdAt: image.createdAt,
    labels: image.config.labels,
    sizeBytes: image.sizeBytes,
  };
}

/** What the image's blobs and filesystems take on the disk. */
export function diskBytesOf(
  stored: StoredImage,
  { blobs, bases }: Pick<Surroundings, "blobs" | "bases">,
): number {
  const key = baseKeyOf(stored.image);
  const ofBlobs = [...blobsOf(stored)].map((hex) => blobs.get(hex) ?? 0);
  const ofBases = bases
    .filter((base) => base.key === key && !base.isUnfinished)
    .map((base) => base.diskBytes);
  return [...ofBlobs, ...ofBases].reduce((sum, bytes) => sum + bytes, 0);
}
