import type { OpenLayerOptions } from "../layer-bytes.ts";
import type { LocalImage, LocalLayer } from "../local-image.ts";
import type { Platform } from "../platform.ts";
import type { PullProgress } from "../progress.ts";
import type { ContentStore } from "../store/content-store.ts";
import type { IndexEntry } from "../store/index-file.ts";

/** Whether an image is asked for where it comes from: each time, when it is not here, or not at all. */
export type PullPolicy = "always" | "missing" | "never";

/** What a source is given to work with. It runs while the store is held. */
export interface SourceContext {
  readonly store: ContentStore;
  readonly platform: Platform;
  readonly env: NodeJS.ProcessEnv;
  /** What the store has, whole, under the same reference and for that platform. */
  readonly known: SourcedImage | undefined;
  /**
   * Returns the image that came from `origin` for that platform if it is here, whole, under whatever name;
   * else makes it and records it. One process at a time does so.
   */
  readonly once: (origin: string, make: () => Promise<SourcedImage>) => Promise<SourcedImage>;
  readonly pull: PullPolicy;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (event: PullProgress) => void;
  /** See {@link WhileLayersCome}; not called when there is nothing to bring. */
  readonly whileLayersCome?: WhileLayersCome | undefined;
}

/** Gives a layer's uncompressed tar; see {@link openLayer}. */
export type OpenLayer = (layer: LocalLayer, options?: OpenLayerOptions) => AsyncIterable<Uint8Array>;

/**
 * Work with an image whose layers are still on their way: `open` gives a layer's tar as its bytes come in. The
 * image is brought when this has settled too, and not brought when it fails. `signal` aborts when a layer fails.
 */
export type WhileLayersCome = (image: LocalImage, open: OpenLayer, signal: AbortSignal) => Promise<void>;

/** An image whose blobs are all in the store, ready to be named in its index. */
export interface SourcedImage {
  readonly entry: IndexEntry;
  readonly image: LocalImage;
}

/**
 * Somewhere that images come from. A further source is one more implementation, chosen in images.ts by the
 * transport of the reference.
 */
export interface ImageSource {
  /** The name under which the store keeps the image. */
  readonly reference: string;
  /**
   * Brings the image into the store: manifest, configuration and layers.
   * @throws FirectlError of kind image; IMAGE_NOT_FOUND.
   */
  bring(context: SourceContext): Promise<SourcedImage>;
}
