import { rm } from "node:fs/promises";
import { type Digest, parseDigest } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { exists } from "../host/files.ts";
import type { LoadedImage } from "./archive/load-archive.ts";
import type { ArchiveInput } from "./archive/open-archive.ts";
import type { ArchiveFormat } from "./archive/save-archive.ts";
import { describeEntries, type StoredImage } from "./catalog.ts";
import type { OpenLayerOptions } from "./layer-bytes.ts";
import type { LocalImage, LocalLayer } from "./local-image.ts";
import { choosePlatform, hostPlatform, type Platform, parsePlatform, platformDistance } from "./platform.ts";
import type { PullProgress } from "./progress.ts";
import { type ImageLocation, locationName, parseImageLocation, parsePlainName } from "./reference.ts";
import { digestPrefixIn, isTooShortForDigest, type Selection, selectImages } from "./select-image.ts";
import type { RegistrySettings } from "./sources/registry/source.ts";
import type {
  ImageSource,
  PullPolicy,
  SourceContext,
  SourcedImage,
  WhileLayersCome,
} from "./sources/source.ts";
import { ContentStore } from "./store/content-store.ts";
import type { Collected, CollectOptions } from "./store/gc.ts";
import { enterImage, type Forgotten, forget, giveName } from "./store/index-changes.ts";
import type { IndexEntry } from "./store/index-file.ts";
import type { StoreUsage } from "./store/usage.ts";

export type { LoadedImage } from "./archive/load-archive.ts";
export type { ArchiveInput } from "./archive/open-archive.ts";
export type { ArchiveFormat } from "./archive/save-archive.ts";
export type { StoredImage } from "./catalog.ts";
export type { OpenLayerOptions } from "./layer-bytes.ts";
export type { LocalImage, LocalLayer } from "./local-image.ts";
export type { Platform } from "./platform.ts";
export type { PullProgress } from "./progress.ts";
export type { Selection } from "./select-image.ts";
export type { OpenLayer, PullPolicy, WhileLayersCome } from "./sources/source.ts";
export type { Collected } from "./store/gc.ts";
export type { IndexEntry } from "./store/index-file.ts";
export type { StoreUsage } from "./store/usage.ts";

export interface ImagesOptions extends RegistrySettings {
  /** Directory of the store. */
  readonly root: string;
  /** Where credentials, proxies and Docker's settings are read from. */
  readonly env: NodeJS.ProcessEnv;
  /** Pause before a broken transfer is tried again the first time. */
  readonly firstRetryDelayMs?: number;
  /** Longest silence within a transfer. */
  readonly idleTimeoutMs?: number;
  /** Where the machine's configuration of registries is, `/etc`. */
  readonly etcDirectory?: string;
}

export interface ObtainOptions {
  readonly pull: PullPolicy;
  /** `linux/amd64[/variant]`; this machine's when undefined. */
  readonly platform?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: PullProgress) => void) | undefined;
  /** Called if the image has to be brought, once it is known what it is. */
  readonly whileLayersCome?: WhileLayersCome | undefined;
}

export type BringOptions = Pick<ObtainOptions, "platform" | "signal" | "onProgress"> & {
  readonly nameless?: boolean;
};

export interface SaveOptions {
  readonly format: ArchiveFormat;
  readonly platform?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The images on this machine, and the ways of getting more. */
export class Images {
  readonly #options: ImagesOptions;
  readonly #store: ContentStore;

  constructor(options: ImagesOptions) {
    this.#options = options;
    this.#store = new ContentStore(options.root);
  }

  /**
   * Returns an image, bringing it into the store first when the policy says so. Of concurrent callers, in
   * this process or others, one brings it and the rest get what came.
   * @throws FirectlError INVALID_REFERENCE, IMAGE_NOT_FOUND, PLATFORM_MISSING, those of kind image, NO_SPACE.
   */
  async obtain(reference: string, options: ObtainOptions): Promise<LocalImage> {
    const platform = wantedPlatform(options.platform);
    const isPinned = parseFullDigest(reference) !== undefined;
    const location = isPinned ? undefined : parseImageLocation(reference);
    // A registry may be far away, and a tag that is here is good until asked otherwise. Docker and a layout
    // are on this machine: what they have now is what is meant.
    if (location === undefined || (isRemote(location) && options.pull !== "always")) {
      const found = await this.#findAny(reference, platform);
      if (found !== undefined) return found.image;
      if (location === undefined || options.pull === "never") throw notHere(reference);
    }
    return this.#bring(location, { ...options, platform });
  }

  /**
   * Brings in what `source` has, whatever is here under its name.
   * @param options.nameless Records it without a name.
   */
  async bring(source: ImageSource, options: BringOptions = {}): Promise<LocalImage> {
    const { platform, nameless = false, ...rest } = options;
    return this.#bringFrom(source, {
      ...rest,
      pull: "always",
      platform: wantedPlatform(platform),
      isRemote: false,
      nameless,
    });
  }

  /**
   * Brings in all images of an archive, as docker, podman and skopeo save them.
   * @throws FirectlError FILE_NOT_FOUND, ARCHIVE_INVALID, DIGEST_MISMATCH, PLATFORM_MISSING, NO_SPACE.
   */
  async load(input: ArchiveInput, options: BringOptions = {}): Promise<readonly LoadedImage[]> {
    const { loadArchive } = await import("./archive/load-archive.ts");
    const { signal, onProgress = () => {} } = options;
    const platform = wantedPlatform(options.platform);
    const context = { store: this.#store, env: this.#options.env, platform, signal, onProgress };
    return this.hold(signal, () =>
      loadArchive(input, context, (source, { nameless }) => this.bring(source, { ...options, nameless })),
    );
  }

  /**
   * One archive of several images, which holds each blob once. Read it within {@link hold}.
   * @throws FirectlError IMAGE_NOT_FOUND, AMBIGUOUS_NAME, LAYER_INVALID for a damaged store.
   */
  async *save(references: readonly string[], options: SaveOptions): AsyncGenerator<Uint8Array> {
    const { saveArchive } = await import("./archive/save-archive.ts");
    const platform = wantedPlatform(options.platform);
    const images: StoredImage[] = [];
    for (const reference of references) {
      const found = await this.#findAny(reference, platform);
      if (found === undefined) throw notHere(reference);
      // A digest asks for the image alone, not for its names.
      const isNamed = digestPrefixIn(reference) === undefined || found.name === fullNameOf(reference);
      images.push(isNamed ? found : { ...found, name: undefined });
    }
    yield* saveArchive(this.#store, images, options);
  }

  /**
   * The image in the store, without asking anyone: by name, digest, or a beginning of a digest that no other
   * image has. Reads two small files for a name.
   * @throws FirectlError INVALID_REFERENCE, AMBIGUOUS_NAME, STATE_CORRUPT.
   */
  async find(reference: string, options: { platform?: string } = {}): Promise<LocalImage | undefined> {
    return (await this.#findAny(reference, wantedPlatform(options.platform)))?.image;
  }

  /** All images, those without a name too, in the order in which they came. */
  async list(): Promise<readonly StoredImage[]> {
    return describeEntries(this.#store, await this.#store.index());
  }

  /**
   * What `reference` names, for all platforms: a name, a digest, a beginning of one.
   * @throws FirectlError IMAGE_NOT_FOUND, INVALID_REFERENCE, AMBIGUOUS_NAME.
   */
  async select(reference: string): Promise<Selection<StoredImage>> {
    const selection = selectImages(await this.list(), reference, fullNameOf(reference));
    if (selection === undefined) throw notHere(reference);
    return selection;
  }

  /**
   * Gives an image a further name. An image that had the name before keeps everything else.
   * @throws FirectlError IMAGE_NOT_FOUND, INVALID_REFERENCE, INVALID_ARGUMENT when `target` is no plain name.
   */
  async tag(source: string, target: string): Promise<string> {
    const name = parsePlainName(target);
    const { items } = await this.select(source);
    await this.#store.prepare();
    // Held: what is being named is not collected meanwhile.
    const digests = new Set(items.map(({ entry }) => entry.digest));
    await this.#store.hold(undefined, () =>
      this.#store.updateIndex((entries) => {
        if (!entries.some(({ digest }) => digests.has(digest))) throw notHere(source);
        return giveName(name, digests)(entries);
      }),
    );
    return name;
  }

  /**
   * Takes the names away that `loses` selects, and forgets the images of `digests` (of the index's entries). An
   * image without any name that is not forgotten stays, nameless. Blobs stay until the next collection.
   */
  async forget(what: Forgotten): Promise<void> {
    const change = forget(what);
    try {
      await this.#store.updateIndex(change);
    } catch (error) {
      // Whoever removes images to get room must not need any: what can be derived again makes room for the index.
      if (!(error instanceof FirectlError && error.code === "NO_SPACE")) throw error;
      await this.#store.removeDescriptions();
      await this.#store.updateIndex(change);
    }
  }

  /**
   * Deletes blobs that no image uses and what interrupted pulls left.
   * @throws FirectlError LOCK_TIMEOUT when images are being pulled or read for longer than `timeoutMs`.
   */
  async collectGarbage(options: CollectOptions & { timeoutMs: number }): Promise<Collected> {
    return this.alone(options.timeoutMs, () => this.collectGarbageAlone(options));
  }

  /** As {@link collectGarbage}, for a caller that runs within {@link alone}. */
  async collectGarbageAlone(options: CollectOptions): Promise<Collected> {
    const { collectGarbage } = await import("./store/gc.ts");
    return collectGarbage(this.#store, options);
  }

  /**
   * Runs `work` while nobody pulls images or reads them.
   * @throws FirectlError LOCK_TIMEOUT when somebody does for longer than `timeoutMs`.
   */
  async alone<T>(timeoutMs: number, work: () => Promise<T>): Promise<T> {
    if (!(await exists(this.#options.root))) return work();
    await this.#store.prepare();
    return this.#store.alone(timeoutMs, work);
  }

  /** Digests of the entries that name nothing any more: their manifest is gone. */
  async brokenEntries(): Promise<ReadonlySet<Digest>> {
    const entries = await this.#store.index();
    const whole = await Promise.all(entries.map((entry) => this.#store.hasBlob(entry)));
    return new Set(entries.filter((_entry, index) => whole[index] === false).map(({ digest }) => digest));
  }

  /** What each blob takes on the disk, by the 64 digits of its digest. */
  async blobSizes(): Promise<ReadonlyMap<string, number>> {
    const { blobSizes } = await import("./store/usage.ts");
    return blobSizes(this.#store);
  }

  /** Whether a living process brings the blob whose beginning is in `partial`. */
  isComing(partial: string): Promise<boolean> {
    return this.#store.isComing(partial);
  }

  /** What the store takes on the disk. */
  async usage(): Promise<StoreUsage> {
    const { usageOf } = await import("./store/usage.ts");
    return usageOf(this.#store);
  }

  /**
   * The configuration of an image as it was written, for `inspect`.
   * @throws FirectlError LAYER_INVALID, DIGEST_MISMATCH, MANIFEST_INVALID.
   */
  async rawConfig(image: LocalImage): Promise<unknown> {
    const { readRawConfig } = await import("./load-image.ts");
    return readRawConfig(this.#store, image);
  }

  /**
   * Removes what a killed firectl left: temporary files, and its container in Docker. Costs one look into a
   * directory when there is nothing. Interrupted downloads stay, to be resumed.
   */
  async mend(): Promise<void> {
    for (const { file, container } of await this.#store.leftovers()) {
      if (container === undefined) await rm(file, { force: true });
      else {
        const { removeLeftover } = await import("./sources/docker.ts");
        await removeLeftover({ file, container }, this.#options.env);
      }
    }
  }

  /** Keeps the store as it is while `work` reads from it: nothing is collected meanwhile. */
  async hold<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    await this.#store.prepare();
    return this.#store.hold(signal, work);
  }

  /**
   * Looks for damage in the layers of an image whose contents make no sense. Those that are not here are passed
   * over.
   * @throws FirectlError DIGEST_MISMATCH for the first that is damaged; it has gone, to be fetched again.
   */
  async verifyLayers({ layers }: LocalImage, signal?: AbortSignal): Promise<void> {
    for (const digest of new Set(layers.map((layer) => layer.digest))) {
      await this.#store.verifyBlob(digest, signal);
    }
  }

  /** See {@link openLayer}. */
  async *openLayer(layer: LocalLayer, options: OpenLayerOptions = {}): AsyncGenerator<Uint8Array> {
    const { openLayer } = await import("./layer-bytes.ts");
    yield* openLayer(layer, { ...options, store: this.#store });
  }

  async #bring(
    location: ImageLocation,
    options: Omit<ObtainOptions, "platform"> & { platform: Platform },
  ): Promise<LocalImage> {
    return this.#bringFrom(await this.#source(location), { ...options, isRemote: isRemote(location) });
  }

  async #bringFrom(
    source: ImageSource,
    options: Omit<ObtainOptions, "platform"> & { platform: Platform; isRemote: boolean; nameless?: boolean },
  ): Promise<LocalImage> {
    const store = this.#store;
    const { reference } = source;
    const { signal, onProgress = () => {} } = options;
    onProgress({ type: "resolving", reference });
    await store.prepare();
    return store.hold(signal, () =>
      store.exclusively(reference, signal, async () => {
        const { platform } = options;
        const found = await this.#find(reference, platform);
        // Another process may have brought it while this one waited.
        if (found !== undefined && options.isRemote && options.pull !== "always") return found.image;
        // One for a compatible platform would hide that there is an exact one now.
        const isExact = found !== undefined && platformDistance(platform, found.image.platform) === 0;
        const known = await this.#ifWhole(isExact ? found : undefined);
        const brought = await source.bring({
          store,
          platform,
          env: this.#options.env,
          known,
          once: (origin, make) =>
            store.exclusively(origin, signal, async () => {
              const same = await this.#ifWhole(
                await this.#findWhere((entry) => entry.origin === origin, platform),
              );
              if (same !== undefined) return same;
              const made = await make();
              await this.#record(made);
              return made;
            }),
          pull: options.pull,
          signal,
          onProgress,
          whileLayersCome: options.whileLayersCome,
        } satisfies SourceContext);
        if (brought === known) return brought.image;
        const { entry } = brought;
        await this.#record(
          options.nameless === true ? { ...brought, entry: { ...entry, reference: undefined } } : brought,
        );
        return brought.image;
      }),
    );
  }

  async #source(location: ImageLocation): Promise<ImageSource> {
    switch (location.transport) {
      case "store":
      case "registry": {
        const { RegistrySource } = await import("./sources/registry/source.ts");
        return new RegistrySource(location.reference, this.#options);
      }
      case "docker": {
        const { DockerSource } = await import("./sources/docker.ts");
        return new DockerSource(location.reference);
      }
      case "oci": {
        const { OciLayoutSource } = await import("./sources/oci-layout.ts");
        return new OciLayoutSource(locationName(location), location);
      }
      case "oci-archive":
      case "docker-archive": {
        const { ArchiveSource } = await import("./sources/archive.ts");
        return new ArchiveSource(locationName(location), location);
      }
      case "rootfs": {
        const { RootfsSource } = await import("./sources/rootfs.ts");
        return new RootfsSource(locationName(location), location);
      }
    }
  }

  /** Names the image in the index. One that had the name for that platform stays, nameless, as in Docker. */
  async #record({ entry, image }: SourcedImage): Promise<void> {
    const { storeOciForm } = await import("./store/oci-form.ts");
    const ociForm = await storeOciForm(this.#store, entry);
    await this.#store.writeDescription(entry.digest, JSON.stringify(image));
    await this.#store.updateIndex(enterImage({ ...entry, ociForm }));
  }

  #find(reference: string, platform: Platform): Promise<StoredImage | undefined> {
    return this.#findWhere((entry) => entry.reference === reference, platform);
  }

  async #findAny(reference: string, platform: Platform): Promise<StoredImage | undefined> {
    const fullName = fullNameOf(reference);
    const named = fullName === undefined ? undefined : await this.#find(fullName, platform);
    const mayBeDigest = digestPrefixIn(reference) !== undefined || reference.includes("@");
    if (named !== undefined || !mayBeDigest) return named;
    const selection = selectImages(await this.list(), reference, fullName);
    return selection === undefined ? undefined : bestOf(selection.items, platform);
  }

  async #findWhere(
    matches: (entry: IndexEntry) => boolean,
    platform: Platform,
  ): Promise<StoredImage | undefined> {
    const entries = (await this.#store.index()).filter(matches);
    return bestOf(await describeEntries(this.#store, entries), platform);
  }

  /** `found`, unless blobs of it are missing from the store. The small ones are read: a pull shall mend them. */
  async #ifWhole(found: SourcedImage | undefined): Promise<SourcedImage | undefined> {
    if (found === undefined) return undefined;
    const { entry, image } = found;
    const layerBytes = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    const config = { digest: image.configDigest, size: image.sizeBytes - layerBytes - entry.size };
    const present = await Promise.all([
      ...[entry, config].map((blob) => this.#store.hasVerifiedBlob(blob)),
      ...image.layers.map((layer) => this.#store.hasBlob(layer)),
    ]);
    return present.every(Boolean) ? found : undefined;
  }
}

function wantedPlatform(text: string | undefined): Platform {
  return text === undefined ? hostPlatform() : parsePlatform(text);
}

function isRemote({ transport }: ImageLocation): boolean {
  return transport === "store" || transport === "registry";
}

/** The name in full, or undefined for what can only be a digest. */
function fullNameOf(reference: string): string | undefined {
  return parseFullDigest(reference) === undefined ? locationName(parseImageLocation(reference)) : undefined;
}

/** 64 digits are no name, with or without what they are digits of. */
function parseFullDigest(text: string): Digest | undefined {
  return parseDigest(text) ?? parseDigest(`sha256:${text}`);
}

function bestOf(items: readonly StoredImage[], platform: Platform): StoredImage | undefined {
  const chosen = choosePlatform(
    platform,
    items.map(({ image }) => image.platform),
  );
  return chosen === undefined ? undefined : items[chosen];
}

function notHere(reference: string): FirectlError {
  return new FirectlError("IMAGE_NOT_FOUND", `image ${reference} is not in the local store`, {
    hint: isTooShortForDigest(reference)
      ? "of a digest write at least three digits: firectl images shows them"
      : `firectl images shows those that are; firectl pull ${reference} fetches it`,
  });
}
