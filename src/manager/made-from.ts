import { FirectlError } from "../core/errors.ts";
import { familiarName, nameParts } from "../image/image-names.ts";
import type { Images } from "../image/images.ts";
import { locationName, parseImageLocation } from "../image/reference.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";

/**
 * The VMs made from one of the images that `references` name: as in docker, from that image under whatever name,
 * and not from another that had the name before. For what the store does not have, the names are compared.
 * @throws FirectlError AMBIGUOUS_NAME.
 */
export async function madeFrom(
  context: Context,
  records: readonly VmRecord[],
  references: readonly string[],
): Promise<readonly VmRecord[]> {
  const images = await context.images();
  const wanted = await Promise.all(
    references.map(async (reference) => ({
      digests: await digestsOf(images, reference),
      names: namesOf(reference),
    })),
  );
  return records.filter(({ imageDigest, imageName }) =>
    wanted.some(({ digests, names }) =>
      // A VM that is being made has only the name yet.
      imageDigest === null || digests === undefined
        ? names.has(familiarName(imageName)) || names.has(nameParts(imageName).repository)
        : digests.has(imageDigest),
    ),
  );
}

/** Manifests of the image for all platforms; undefined when it is not in the store. */
async function digestsOf(images: Images, reference: string): Promise<ReadonlySet<string> | undefined> {
  try {
    const { items } = await images.select(reference);
    return new Set(items.map(({ image }) => image.manifestDigest));
  } catch (error) {
    const isElsewhere =
      error instanceof FirectlError &&
      (error.code === "IMAGE_NOT_FOUND" || error.code === "INVALID_REFERENCE");
    if (isElsewhere) return undefined;
    throw error;
  }
}

/** What a VM's image may be called when it was asked for so: as it is written, and in full. */
function namesOf(reference: string): ReadonlySet<string> {
  const names = new Set([familiarName(reference)]);
  try {
    names.add(familiarName(locationName(parseImageLocation(reference))));
  } catch (error) {
    // A configuration file of the user's own, which stands for an image, is no reference.
    if (!(error instanceof FirectlError)) throw error;
  }
  return names;
}
