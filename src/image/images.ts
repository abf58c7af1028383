import { rm } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import type { OpenLayerOptions } from "./layer-bytes.ts";
import type { LocalImage, LocalLayer } from "./local-image.ts";
import { choosePlatform, hostPlatform, type Platform, parsePlatform, platformDistance } from "./platform.ts";
import type { PullProgress } from "./progress.ts";
import { type ImageLocation, normalisedReference, parseImageLocation } from "./reference.ts";
import type { ImageSource, PullPolicy, SourceContext, SourcedImage, WhileLayersCome } from "./sources/source.ts";
import { ContentStore } from "./store/content-store.ts";
import type { Collected } from "./store/gc.ts";
import type { IndexEntry } from "./store/index-file.ts";

export type { LocalImage, LocalLayer } from "./local-image.ts";
export type { Platform } from "./platform.ts";
export type { PullProgress } from "./progress.ts";
export type { OpenLayerOptions } from "./layer-bytes.ts";
export type { PullPolicy, WhileLayersCome } from "./sources/source.ts";
export type { Collected } from "./store/gc.ts";

export interface ImagesOptions {
  /** Directory of the store. */
  readonly root: string;
  /** Where credentials, proxies and Docker's settings are read from. */
  readonly env: NodeJS.ProcessEnv;
  /** Hosts (with port) that may be spoken to over plain HTTP, beside FIRECTL_INSECURE_REGISTRIES. */
  readonly insecureRegistries?: readonly string[];
  /** Pause before a broken transfer is tried again the first time. */
  readonly firstRetryDelayMs?: number;
  /** Longest silence within a transfer. */
  readonly idleTimeoutMs?: number;
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

/** A removal need not wait for a pull under way: what it cannot collect, the next one will. */
const REMOVE_GC_TIMEOUT_MS = 50;

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
    const location = parseImageLocation(reference);
    const platform = wantedPlatform(options.platform);
    // A registry may be far away, and a tag that is here is good until asked otherwise. Docker and a layout
    // are on this machine: what they have now is what is meant.
    const isRemote = location.transport === "store" || location.transport === "registry";
    if (isRemote && options.pull !== "always") {
      const found = await this.#find(nameOf(location), platform);
      if (found !== undefined) return found.image;
      if (options.pull === "never") throw notHere(reference);
    }
    return this.#bring(location, { ...options, platform });
  }

  /**
   * The image in the store, without asking anyone. Reads two small files.
   * @throws FirectlError INVALID_REFERENCE, STATE_CORRUPT.
   */
  async find(reference: string, options: { platform?: string } = {}): Promise<LocalImage | undefined> {
    const found = await this.#find(nameOf(parseImageLocation(reference)), wantedPlatform(options.platform));
    return found?.image;
  }

  /** All images, in the order in which they came. */
  async list(): Promise<readonly LocalImage[]> {
    const images: LocalImage[] = [];
    for (const entry of await this.#store.index()) {
      const image = entry.reference === undefined ? undefined : await this.#describe(entry);
      if (image !== undefined) images.push(image);
    }
    return images;
  }

  /**
   * Forgets an image, for all platforms, and deletes the blobs that no other one uses.
   * @throws FirectlError IMAGE_NOT_FOUND.
   */
  async remove(reference: string): Promise<void> {
    const name = nameOf(parseImageLocation(reference));
    const isThere = (await this.#store.index()).some((entry) => entry.reference === name);
    if (!isThere) throw notHere(reference);
    await this.#store.prepare();
    await this.#store.updateIndex({ replaces: (entry) => entry.reference === name });
    await this.collectGarbage({ timeoutMs: REMOVE_GC_TIMEOUT_MS }).catch((error: unknown) => {
      if (!(error instanceof FirectlError && error.code === "LOCK_TIMEOUT")) throw error;
    });
  }

  /**
   * Deletes blobs that no image uses and what interrupted pulls left.
   * @throws FirectlError LOCK_TIMEOUT when images are being pulled or read for longer than `timeoutMs`.
   */
  async collectGarbage(options: { timeoutMs: number }): Promise<Collected> {
    await this.#store.prepare();
    const { collectGarbage } = await import("./store/gc.ts");
    return collectGarbage(this.#store, options);
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

  /** See {@link openLayer}. */
  async *openLayer(layer: LocalLayer, options: OpenLayerOptions = {}): AsyncGenerator<Uint8Array> {
    const { openLayer } = await import("./layer-bytes.ts");
    yield* openLayer(layer, { ...options, store: this.#store, env: this.#options.env });
  }

  async #bring(
    location: ImageLocation,
    options: Omit<ObtainOptions, "platform"> & { platform: Platform },
  ): Promise<LocalImage> {
    const store = this.#store;
    const source = await this.#source(location);
    const { reference } = source;
    const { signal, onProgress = () => {} } = options;
    onProgress({ type: "resolving", reference });
    await store.prepare();
    return store.hold(signal, () =>
      store.exclusively(reference, signal, async () => {
        const { platform } = options;
        const found = await this.#find(reference, platform);
        // Another process may have brought it while this one waited.
        const isRemote = location.transport === "store" || location.transport === "registry";
        if (found !== undefined && isRemote && options.pull !== "always") return found.image;
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
        if (brought !== known) await this.#record(brought);
        return brought.image;
      }),
    );
  }

  async #source(location: ImageLocation): Promise<ImageSource> {
    switch (location.transport) {
      case "store":
      case "registry": {
        const { RegistrySource } = await import("./sources/registry/source.ts");
        return new RegistrySource(location.reference, {
          insecureRegistries: this.#options.insecureRegistries ?? [],
          firstRetryDelayMs: this.#options.firstRetryDelayMs,
          idleTimeoutMs: this.#options.idleTimeoutMs,
        });
      }
      case "docker": {
        const { DockerSource } = await import("./sources/docker.ts");
        return new DockerSource(location.reference);
      }
      case "oci": {
        const { OciLayoutSource } = await import("./sources/oci-layout.ts");
        return new OciLayoutSource(nameOf(location), location);
      }
    }
  }

  async #record({ entry, image }: SourcedImage): Promise<void> {
    await this.#store.writeDescription(entry.digest, JSON.stringify(image));
    await this.#store.updateIndex({
      replaces: (other) => other.reference === entry.reference && isSamePlatform(other, entry),
      added: entry,
    });
  }

  #find(reference: string, platform: Platform): Promise<SourcedImage | undefined> {
    return this.#findWhere((entry) => entry.reference === reference, platform);
  }

  async #findWhere(
    matches: (entry: IndexEntry) => boolean,
    platform: Platform,
  ): Promise<SourcedImage | undefined> {
    const found: SourcedImage[] = [];
    for (const entry of (await this.#store.index()).filter(matches)) {
      const image = await this.#describe(entry);
      if (image !== undefined) found.push({ entry, image });
    }
    const offered = found.map(({ image }) => image.platform);
    const chosen = choosePlatform(platform, offered);
    return chosen === undefined ? undefined : found[chosen];
  }

  /** What was derived when the image came in; derived now for one that another tool put into the store. */
  async #describe(entry: IndexEntry): Promise<LocalImage | undefined> {
    const reference = entry.reference ?? "";
    const text = await this.#store.readDescription(entry.digest);
    const written = text === undefined ? undefined : parseDescription(text);
    if (written !== undefined) return { ...written, reference };
    const { loadImage } = await import("./load-image.ts");
    return loadImage(this.#store, { ...entry, reference });
  }

  /** `found`, unless blobs of it are missing from the store. */
  async #ifWhole(found: SourcedImage | undefined): Promise<SourcedImage | undefined> {
    if (found === undefined) return undefined;
    const { entry, image } = found;
    const layerBytes = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    const config = { digest: image.configDigest, size: image.sizeBytes - layerBytes - entry.size };
    const blobs = [entry, config, ...image.layers];
    const present = await Promise.all(blobs.map((blob) => this.#store.hasBlob(blob)));
    return present.every(Boolean) ? found : undefined;
  }
}

function parseDescription(text: string): LocalImage | undefined {
  try {
    // Written by #record from a validated image, atomically, into a directory that is the user's alone.
    return JSON.parse(text) as LocalImage;
  } catch {
    return undefined;
  }
}

function nameOf(location: ImageLocation): string {
  switch (location.transport) {
    case "store":
    case "registry":
      return normalisedReference(location.reference);
    case "docker":
      return `docker:${normalisedReference(location.reference)}`;
    case "oci":
      return `oci:${path.resolve(location.directory)}${location.tag === undefined ? "" : `:${location.tag}`}`;
  }
}

function wantedPlatform(text: string | undefined): Platform {
  return text === undefined ? hostPlatform() : parsePlatform(text);
}

function isSamePlatform(a: IndexEntry, b: IndexEntry): boolean {
  return a.platform?.architecture === b.platform?.architecture && a.platform?.variant === b.platform?.variant;
}

function notHere(reference: string): FirectlError {
  return new FirectlError("IMAGE_NOT_FOUND", `image ${reference} is not in the local store`, {
    hint: `firectl run --pull missing ${reference} fetches it`,
  });
}
