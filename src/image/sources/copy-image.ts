import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { openLayer } from "../layer-bytes.ts";
import { describeImage, type LocalImage, platformOfConfig } from "../local-image.ts";
import {
  type Descriptor,
  type ImageManifest,
  MAX_MANIFEST_BYTES,
  parseImageConfig,
  parseManifest,
} from "../manifest.ts";
import { choosePlatform, normalise, type Platform, platformDistance, platformMissing } from "../platform.ts";
import { everyMebibyte } from "../progress.ts";
import { type BlobDescriptor, sha256 } from "../store/content-store.ts";
import { GrowingBlob } from "../store/growing-blob.ts";
import { ingestBlob, ingestBytes } from "../store/ingest.ts";
import type { SourceContext, SourcedImage, WhileLayersCome } from "./source.ts";

/** An index may hold indexes (BuildKit's never go deeper than one); more than this is hostile. */
const MAX_INDEX_DEPTH = 4;
const PARALLEL_BLOBS = 4;

/** Where manifests and blobs are read from: a registry, a layout, an archive. */
export interface BlobOrigin {
  /** The manifest or index that the reference names. */
  root(signal: AbortSignal): Promise<RawManifest>;
  /** The manifest with that digest, as large as the descriptor says; verified by the caller. */
  manifest(descriptor: Descriptor, signal: AbortSignal): Promise<RawManifest>;
  /** The bytes of a blob from `offset` on; verified by the caller. */
  blob(blob: Descriptor, options: { offset: number; signal: AbortSignal }): AsyncIterable<Uint8Array>;
  /** See {@link ingestBlob}. */
  clone?(blob: BlobDescriptor, file: string): Promise<boolean>;
}

export interface RawManifest {
  readonly bytes: Uint8Array;
  /** As a header or descriptor says, undefined when nothing does. */
  readonly mediaType: string | undefined;
}

interface ChosenManifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly manifest: ImageManifest;
  /** The digest of what the reference names, the index if it is one. */
  readonly rootDigest: Digest;
  readonly platform: Platform | undefined;
}

/**
 * Copies the image for the wanted platform into the store: manifests first, then configuration and layers
 * side by side, each verified; the manifest goes in last, so that what the store names is whole.
 */
export async function copyImage(
  origin: BlobOrigin,
  reference: string,
  context: SourceContext,
): Promise<SourcedImage> {
  const controller = new AbortController();
  const signal =
    context.signal === undefined ? controller.signal : AbortSignal.any([context.signal, controller.signal]);
  const chosen = await chooseManifest(origin, { reference, platform: context.platform, signal });
  const { store } = context;
  const { config: configDescriptor, layers } = chosen.manifest;
  await ingestBlob(store, configDescriptor, {
    read: (offset) => origin.blob(configDescriptor, { offset, signal }),
    signal,
  });
  const config = parseImageConfig(await store.readBlob(configDescriptor), {
    layerCount: layers.length,
    what: `the configuration of ${reference}`,
  });
  const platform = chosen.platform ?? platformOfConfig(config);
  if (platformDistance(context.platform, platform) === undefined) {
    throw platformMissing(reference, context.platform, [platform]);
  }
  context.onProgress({
    type: "resolved",
    reference,
    layers: layers.map(({ digest, size }) => ({ digest, size })),
  });
  const manifestBlob = { digest: sha256(chosen.bytes), size: chosen.bytes.byteLength };
  const image = describeImage(
    { reference, manifestDigest: manifestBlob.digest, manifestSize: manifestBlob.size, platform },
    chosen.manifest,
    config,
  );
  await copyLayers(origin, { image, layers, context, controller, signal });
  await ingestBytes(store, chosen.bytes);
  return {
    entry: { mediaType: chosen.mediaType, ...manifestBlob, reference, platform, origin: chosen.rootDigest },
    image,
  };
}

/** Brings the layers in, side by side, and lets the work with them begin meanwhile. */
async function copyLayers(
  origin: BlobOrigin,
  options: {
    image: LocalImage;
    layers: readonly Descriptor[];
    context: SourceContext;
    controller: AbortController;
    signal: AbortSignal;
  },
): Promise<void> {
  const { image, context, controller, signal } = options;
  const { store } = context;
  const growing = new Map(options.layers.map((layer) => [layer.digest, new GrowingBlob(store, layer)]));
  const copies = {
    // The topmost first: it is the first that the root filesystem needs.
    items: uniqueByDigest(options.layers.toReversed()),
    work: (layer: Descriptor) =>
      copyLayer(origin, layer, { ...context, signal, growing: growing.get(layer.digest) }),
  };
  const uses = {
    items: context.whileLayersCome === undefined ? [] : [context.whileLayersCome],
    work: (use: WhileLayersCome) =>
      use(
        image,
        (layer, how) =>
          openLayer(layer, {
            ...how,
            store,
            growing: growing.get(layer.digest),
            // A layer that fails will never be whole: nobody shall wait for it.
            signal: how?.signal === undefined ? signal : AbortSignal.any([signal, how.signal]),
          }),
        signal,
      ),
  };
  // Whichever fails first ends the other, and is what failed.
  await Promise.allSettled([
    eachInParallel(copies.items, { limit: PARALLEL_BLOBS, controller }, copies.work),
    eachInParallel(uses.items, { limit: 1, controller }, uses.work),
  ]);
  signal.throwIfAborted();
}

async function copyLayer(
  origin: BlobOrigin,
  layer: Descriptor,
  context: SourceContext & { signal: AbortSignal; growing: GrowingBlob | undefined },
): Promise<void> {
  const { digest, size: total } = layer;
  const clone = origin.clone?.bind(origin);
  const cameIn = await ingestBlob(context.store, layer, {
    read: (offset) => origin.blob(layer, { offset, signal: context.signal }),
    clone: clone === undefined ? undefined : (file) => clone(layer, file),
    onReceived: everyMebibyte((received) => context.onProgress({ type: "layer", digest, received, total })),
    growing: context.growing,
    signal: context.signal,
  });
  context.onProgress({ type: cameIn ? "layer-done" : "layer-exists", digest, total });
}

async function chooseManifest(
  origin: BlobOrigin,
  options: { reference: string; platform: Platform; signal: AbortSignal },
): Promise<ChosenManifest> {
  const root = await origin.root(options.signal);
  const rootDigest = sha256(root.bytes);
  let [raw, platform]: [RawManifest, Platform | undefined] = [root, undefined];
  for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth++) {
    const what = depth === 0 ? `the manifest of ${options.reference}` : `manifest ${sha256(raw.bytes)}`;
    const parsed = parseManifest(raw.bytes, {
      ...(raw.mediaType === undefined ? {} : { mediaType: raw.mediaType }),
      what,
    });
    if (parsed.kind === "manifest") {
      return {
        bytes: raw.bytes,
        mediaType: parsed.mediaType,
        manifest: parsed.manifest,
        rootDigest,
        platform,
      };
    }
    const descriptor = chooseFromIndex(parsed.index.manifests, options);
    platform = platformOf(descriptor) ?? platform;
    raw = await verifiedManifest(origin, descriptor, options.signal);
  }
  throw new FirectlError(
    "MANIFEST_INVALID",
    `the manifest of ${options.reference} is not valid: indexes within indexes, more than ${MAX_INDEX_DEPTH} deep`,
  );
}

function chooseFromIndex(
  manifests: readonly Descriptor[],
  options: { reference: string; platform: Platform },
): Descriptor {
  // Entries without a platform (a nested index, a layout made by hand) are the last resort.
  const withPlatform = manifests.filter((entry) => entry.platform != null);
  const offered = withPlatform.flatMap((entry) => platformOf(entry) ?? []);
  const index = choosePlatform(options.platform, offered);
  const chosen =
    index === undefined ? manifests.find((entry) => entry.platform == null) : withPlatform[index];
  if (chosen === undefined) throw platformMissing(options.reference, options.platform, offered);
  return chosen;
}

function platformOf(entry: Descriptor): Platform | undefined {
  if (entry.platform == null) return undefined;
  return normalise(entry.platform.os, entry.platform.architecture, entry.platform.variant);
}

async function verifiedManifest(
  origin: BlobOrigin,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<RawManifest> {
  if (descriptor.size > MAX_MANIFEST_BYTES) {
    throw new FirectlError(
      "MANIFEST_INVALID",
      `manifest ${descriptor.digest} is not valid: it has ${descriptor.size} bytes, at most ${MAX_MANIFEST_BYTES} are read`,
    );
  }
  const raw = await origin.manifest(descriptor, signal);
  verifyBytes(raw.bytes, descriptor);
  return raw;
}

/**
 * Checks bytes held in memory against their descriptor.
 * @throws FirectlError DIGEST_MISMATCH.
 */
export function verifyBytes(bytes: Uint8Array, descriptor: BlobDescriptor): void {
  if (bytes.byteLength !== descriptor.size) {
    throw new FirectlError(
      "DIGEST_MISMATCH",
      `${descriptor.digest} has ${bytes.byteLength} bytes, ${descriptor.size} were announced`,
    );
  }
  const actual = sha256(bytes);
  if (actual !== descriptor.digest) {
    throw new FirectlError("DIGEST_MISMATCH", `${descriptor.digest} has the digest ${actual}`);
  }
}

function uniqueByDigest(layers: readonly Descriptor[]): readonly Descriptor[] {
  return [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
}

/** Runs `work` on all items, a few at a time; the first failure stops the rest, and is thrown when all rest. */
async function eachInParallel<T>(
  items: readonly T[],
  options: { limit: number; controller: AbortController },
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined && failures.length === 0; item = queue.shift()) {
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
        options.controller.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: options.limit }, worker));
  if (failures.length > 0) throw failures[0];
}
