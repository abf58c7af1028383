/** What a root filesystem may take; a layer that goes beyond is refused. */
export interface RootfsLimits {
  /** Entries of all layers together; directories that only paths name and segments of sparse files count too. */
  readonly maxEntries: number;
  /** Uncompressed bytes of all layers together; also how large the filesystem may grow. */
  readonly maxBytes: number;
  /** Names, link targets and extended attributes of all entries together, in bytes: they are held in memory. */
  readonly maxMetadataBytes: number;
}

/**
 * Parts of paths that are looked up, for each entry allowed: symlinks upon symlinks could make each entry cost
 * tens of thousands.
 */
export const STEPS_PER_ENTRY = 100;

/** Enough for any image seen in practice; an entry takes some 450 bytes of memory. */
export const DEFAULT_LIMITS: RootfsLimits = {
  maxEntries: 2_000_000,
  maxBytes: 128 * 2 ** 30,
  maxMetadataBytes: 512 * 2 ** 20,
};
