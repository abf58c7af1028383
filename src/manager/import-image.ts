import { familiarName } from "../image/image-names.ts";
import { parsePlainName } from "../image/reference.ts";
import type { ImportImageOptions, LoadedImage } from "./api.ts";
import type { Context } from "./context.ts";
import { reportPull } from "./pull-progress.ts";

/**
 * Makes an image of a root filesystem: a tar, a directory, or a stream.
 * @throws FirectlError INVALID_ARGUMENT for changes that Docker would not take, ARCHIVE_INVALID for what is no tar.
 */
export async function importImage(
  context: Context,
  source: string | AsyncIterable<Uint8Array>,
  options: ImportImageOptions,
): Promise<LoadedImage> {
  const [{ RootfsSource }, { configFromChanges }] = await Promise.all([
    import("../image/sources/rootfs.ts"),
    import("../image/config-changes.ts"),
  ]);
  const config = configFromChanges(options.changes ?? []);
  const name = options.name === undefined ? undefined : parsePlainName(options.name);
  const input = typeof source === "string" ? { path: source } : { path: "-", stdin: source };
  const images = await context.images();
  const image = await images.bring(
    new RootfsSource(name ?? "an image without a name", input, {
      config,
      created: new Date().toISOString(),
      comment: options.message ?? `Imported from ${input.path}`,
    }),
    {
      nameless: name === undefined,
      platform: options.platform,
      signal: options.signal,
      onProgress: reportPull(options.onProgress),
    },
  );
  return { names: name === undefined ? [] : [familiarName(name)], digest: image.manifestDigest };
}
