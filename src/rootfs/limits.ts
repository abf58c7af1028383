/** What a root filesystem may take; a layer that goes beyond is refused. */
export interface RootfsLimits {
  /** Entries of all layers together. */
  readonly maxEntries: number;
  /** Uncompressed bytes of all layers together; also how large the filesystem may grow. */
  readonly maxBytes: number;
  /** Extended attributes of all entries together, in bytes: they are held in memory. */
  readonly maxXattrBytes: number;
}

/** Enough for any image seen in practice; an entry takes some 500 bytes of memory. */
export const DEFAULT_LIMITS: RootfsLimits = {
  maxEntries: 2_000_000,
  maxBytes: 128 * 2 ** 30,
  maxXattrBytes: 64 * 2 ** 20,
};
