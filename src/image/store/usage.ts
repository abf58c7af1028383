import { lstat } from "node:fs/promises";
import path from "node:path";
import { errnoOf } from "../../core/errors.ts";
import { ioError, namesIn } from "../../host/files.ts";
import type { ContentStore } from "./content-store.ts";
import { blobsInUse } from "./gc.ts";

/** What the store takes on the disk: real blocks, in bytes. */
export interface StoreUsage {
  /** Of each blob, by the 64 digits of its digest. */
  readonly blobs: ReadonlyMap<string, number>;
  /** The digits of the blobs that the index leads to. */
  readonly named: ReadonlySet<string>;
  /** Downloads that were interrupted, or are under way. */
  readonly partials: readonly { readonly path: string; readonly diskBytes: number }[];
  /** Index, descriptions, locks and the like. */
  readonly otherBytes: number;
}

/** `st_blocks` counts in these, whatever the filesystem's own blocks are: stat(2). */
const STAT_BLOCK_BYTES = 512;

/** Looks at every file of the store. */
export async function usageOf(store: ContentStore): Promise<StoreUsage> {
  const [blobs, ingest, ...others] = await Promise.all([
    blobSizes(store),
    ...["ingest", "images", "locks", "."].map((name) => sizesIn(path.join(store.root, name))),
  ]);
  return {
    blobs,
    named: await blobsInUse(store, await store.index()),
    partials: [...(ingest ?? [])].map(([name, diskBytes]) => ({
      path: path.join(store.root, "ingest", name),
      diskBytes,
    })),
    otherBytes: others.flatMap((sizes) => [...sizes.values()]).reduce((sum, size) => sum + size, 0),
  };
}

/** What each blob takes on the disk, by the 64 digits of its digest. */
export function blobSizes(store: ContentStore): Promise<ReadonlyMap<string, number>> {
  return sizesIn(path.join(store.root, "blobs", "sha256"));
}

async function sizesIn(directory: string): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  await Promise.all(
    (await namesIn(directory)).map(async (name) => {
      try {
        const stats = await lstat(path.join(directory, name));
        if (stats.isFile()) sizes.set(name, stats.blocks * STAT_BLOCK_BYTES);
      } catch (error) {
        // Collected, or renamed to its final place, meanwhile.
        if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at ${path.join(directory, name)}`, error);
      }
    }),
  );
  return sizes;
}
