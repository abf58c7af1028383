import { FirectlError } from "../core/errors.ts";
import { layerError } from "../tar/layer-error.ts";
import { MAX_ARENA_BYTES } from "./ext4/byte-arena.ts";

/** What a root filesystem may take; a layer that goes beyond is refused. */
export interface RootfsLimits {
  /** Entries of all layers together; directories that only paths name and segments of sparse files count too. */
  readonly maxEntries: number;
  /** Uncompressed bytes of all layers together; also how large the filesystem may grow. */
  readonly maxBytes: number;
  /**
   * Names, link targets and extended attributes of all entries together, in bytes: they are held in memory.
   * 256 for each entry allowed, unless given.
   */
  readonly maxMetadataBytes: number;
}

/**
 * Parts of paths that are looked up, for each entry allowed: symlinks upon symlinks could make each entry cost
 * tens of thousands.
 */
export const STEPS_PER_ENTRY = 100;

/** More than the names of any image seen in practice take: its paths have some 60 bytes on average. */
const METADATA_BYTES_PER_ENTRY = 256;

/** Enough for any image seen in practice; an entry takes some 150 bytes of memory, its attributes not counted. */
const DEFAULT_MAX_ENTRIES = 2_000_000;
const DEFAULT_MAX_BYTES: number = 128 * 2 ** 30;

/** The limits that hold where only some are given. */
export function limitsOf(given: Partial<RootfsLimits> = {}): RootfsLimits {
  const maxEntries = given.maxEntries ?? DEFAULT_MAX_ENTRIES;
  return {
    maxEntries,
    maxBytes: given.maxBytes ?? DEFAULT_MAX_BYTES,
    maxMetadataBytes: Math.min(
      given.maxMetadataBytes ?? METADATA_BYTES_PER_ENTRY * maxEntries,
      MAX_ARENA_BYTES,
    ),
  };
}

/** The flag that raises a limit. */
export type LimitFlag = "--max-image-size" | "--max-image-entries";

/** The error for an image that is too much, naming layer, entry and limit. */
export function limitError(
  where: { readonly layer: string; readonly entry?: string | undefined },
  problem: string,
  flag: LimitFlag,
): FirectlError {
  const { message } = layerError(where.layer, where.entry, `the image has ${problem}`);
  return new FirectlError("LAYER_INVALID", message, {
    hint: `if you trust the image, raise the limit with ${flag}`,
  });
}
