import { writeChunksAtomic } from "../host/files.ts";
import type { SaveImagesOptions } from "./api.ts";
import type { Context } from "./context.ts";

/** Writes images into one archive, whole or not at all when it goes to a file. */
export async function saveImages(
  context: Context,
  references: readonly string[],
  options: SaveImagesOptions,
): Promise<void> {
  const { output, signal, platform } = options;
  const images = await context.images();
  // Held: nobody collects the blobs while they are read.
  await images.hold(signal, async () => {
    const chunks = images.save(references, { format: options.format ?? "docker-archive", platform, signal });
    if (typeof output === "string") await writeChunksAtomic(output, chunks);
    else for await (const chunk of chunks) await output(chunk);
  });
}
