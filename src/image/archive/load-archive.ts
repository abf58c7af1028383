import type { LocalImage } from "../local-image.ts";
import type { Platform } from "../platform.ts";
import { everyMebibyte, type PullProgress } from "../progress.ts";
import type { ImageSource } from "../sources/source.ts";
import type { ContentStore } from "../store/content-store.ts";
import { bringArchived } from "./archived-image.ts";
import { imagesIn } from "./images-in.ts";
import { type ArchiveInput, withArchive } from "./open-archive.ts";

/** An image that has come out of an archive. */
export interface LoadedImage {
  readonly image: LocalImage;
  /** The names that the archive gave it, in full; without any it is known by its digest alone. */
  readonly names: readonly string[];
}

export interface LoadContext {
  readonly store: ContentStore;
  readonly env: NodeJS.ProcessEnv;
  readonly platform: Platform;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (event: PullProgress) => void;
}

/** Brings a source's image into the store and records it. */
export type Bring = (source: ImageSource, options: { nameless: boolean }) => Promise<LocalImage>;

/** Brings in all images of an archive, in its order. The caller holds the store. */
export async function loadArchive(
  input: ArchiveInput,
  context: LoadContext,
  bring: Bring,
): Promise<readonly LoadedImage[]> {
  const { store, env, platform, signal, onProgress } = context;
  const label = "file" in input ? input.file : input.label;
  const onReceived = everyMebibyte((received) => onProgress({ type: "reading", reference: label, received }));
  return withArchive(input, { store, env, signal, onReceived }, async (archive) => {
    const loaded: LoadedImage[] = [];
    for (const image of await imagesIn(archive, platform)) {
      const { names } = image;
      const sources = (names.length === 0 ? [label] : names).map(
        (reference): ImageSource => ({
          reference,
          bring: (sourceContext) => bringArchived(archive, { image, reference, context: sourceContext }),
        }),
      );
      let brought: LocalImage | undefined;
      // From the second name on, all blobs are here.
      for (const source of sources) brought = await bring(source, { nameless: names.length === 0 });
      if (brought !== undefined) loaded.push({ image: brought, names });
    }
    if (loaded.length === 0) throw archive.invalid(undefined, "it holds no image");
    return loaded;
  });
}
