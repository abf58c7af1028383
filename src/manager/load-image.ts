import { familiarName } from "../image/image-names.ts";
import type { ArchiveInput } from "../image/images.ts";
import type { BringImageOptions, LoadedImage, LoadSource } from "./api.ts";
import type { Context } from "./context.ts";
import { reportPull } from "./pull-progress.ts";

/** Brings all images of an archive into the store. */
export async function loadImages(
  context: Context,
  source: LoadSource,
  options: BringImageOptions,
): Promise<readonly LoadedImage[]> {
  const images = await context.images();
  const input: ArchiveInput =
    "file" in source ? source : { chunks: source.input, label: source.label ?? "standard input" };
  const loaded = await images.load(input, {
    platform: options.platform,
    signal: options.signal,
    onProgress: reportPull(options.onProgress),
  });
  return loaded.map(({ image, names }) => ({ names: names.map(familiarName), digest: image.manifestDigest }));
}
