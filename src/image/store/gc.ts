import { type FileHandle, lstat, open, rm } from "node:fs/promises";
import path from "node:path";
import { type Digest, digestHex, parseDigest } from "../../core/brands.ts";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { ioError, namesIn } from "../../host/files.ts";
import { MAX_MANIFEST_BYTES } from "../manifest.ts";
import { isIndex, isManifest } from "../media-types.ts";
import { type ContentStore, FETCH_AGAIN, sha256 } from "./content-store.ts";
import type { IndexEntry } from "./index-file.ts";

/** An interrupted download is kept this long, to be resumed. */
const PARTIAL_LIFETIME_MS = 24 * 3_600_000;
const ABANDONED_AFTER_MS = 3_600_000;
/** `st_blocks` counts in these, whatever the filesystem's own blocks are: stat(2). */
const STAT_BLOCK_BYTES = 512;

export interface CollectOptions {
  /**
   * Interrupted downloads younger than this stay, to be resumed; a day when absent, and none with -Infinity. One
   * from the future counts as old: its age says nothing.
   */
  readonly partialLifetimeMs?: number;
}

/** What went; bytes as they were on the disk. */
export interface Collected {
  readonly blobs: number;
  /** Of the blobs. */
  readonly bytes: number;
  readonly partials: number;
  readonly partialBytes: number;
}

/**
 * Deletes the blobs that no image uses, abandoned temporary files and locks. The caller has the store alone:
 * nobody pulls or reads, so what is seen unused is unused.
 * @throws FirectlError before anything is deleted, when it cannot be told what is in use: see {@link blobsInUse}.
 */
export async function collectGarbage(store: ContentStore, options: CollectOptions = {}): Promise<Collected> {
  const { partialLifetimeMs = PARTIAL_LIFETIME_MS } = options;
  if ((await namesIn(store.root)).length === 0) return { blobs: 0, bytes: 0, partials: 0, partialBytes: 0 };
  const used = await blobsInUse(store, await store.index());
  await removeMatching(path.join(store.root, "images"), (name) => !used.has(name.replace(/\.json$/, "")));
  await removeMatching(path.join(store.root, "locks"), (name) => /^[0-9a-f]{64}\.lock$/.test(name));
  // Notes of containers stay until the containers are gone.
  const ingest = path.join(store.root, "ingest");
  const partials = await removeMatching(ingest, (name, ageMs) => {
    if (name.endsWith(".partial")) return ageMs < 0 || ageMs > partialLifetimeMs;
    return name.endsWith(".tmp");
  });
  await store.withIndex(() => removeMatching(store.root, (name) => /^index\.json\..*\.tmp$/.test(name)));
  // The layout's marker is also written without holding the store, which takes milliseconds.
  await removeMatching(store.root, (name, ageMs) => name.endsWith(".tmp") && ageMs > ABANDONED_AFTER_MS);
  const blobs = await removeMatching(path.join(store.root, "blobs", "sha256"), (name) => !used.has(name));
  return {
    blobs: blobs.count,
    bytes: blobs.bytes,
    partials: partials.count,
    partialBytes: partials.bytes,
  };
}

/**
 * The 64 digits of each blob that the entries lead to.
 * @throws FirectlError DIGEST_MISMATCH for a manifest that is damaged, IO_FAILED for one that cannot be read: what
 *   it leads to is not known then, and might be taken for garbage.
 */
export async function blobsInUse(
  store: ContentStore,
  entries: readonly IndexEntry[],
): Promise<ReadonlySet<string>> {
  const used = new Set<string>();
  const expanded = new Set<string>();
  const queue: BlobInUse[] = [...entries];
  for (let blob = queue.pop(); blob !== undefined; blob = queue.pop()) {
    const hex = digestHex(blob.digest);
    used.add(hex);
    // A manifest may have been met before as something else: any image can name any blob as its layer.
    if (expanded.has(hex) || !(isIndex(blob.mediaType) || isManifest(blob.mediaType))) continue;
    expanded.add(hex);
    for (const child of await childrenOf(store, blob.digest)) queue.push(child);
  }
  for (const { ociForm } of entries) if (ociForm !== undefined) used.add(digestHex(ociForm.digest));
  return used;
}

interface BlobInUse {
  readonly digest: Digest;
  readonly mediaType: string;
}

/** Read loosely: another tool's manifest may hold what firectl would not take, and still be in use. */
async function childrenOf(store: ContentStore, digest: Digest): Promise<readonly BlobInUse[]> {
  const bytes = await readManifest(store, digest);
  if (bytes === undefined) return [];
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString("utf8"));
  } catch {
    return [];
  }
  return ["manifests", "layers", "config"].flatMap((name) => descriptorsIn(field(document, name)));
}

/**
 * The bytes of a manifest, verified; undefined for one that is not here, and for what is too large to be one. Other
 * than by {@link ContentStore.readBlob}, one that is damaged stays: were it missing, the next collection would take
 * what it leads to.
 */
async function readManifest(store: ContentStore, digest: Digest): Promise<Buffer | undefined> {
  const file = store.blobPath(digest);
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, "r");
    if ((await handle.stat()).size > MAX_MANIFEST_BYTES) return undefined;
    const bytes = await handle.readFile();
    const actual = sha256(bytes);
    if (actual === digest) return bytes;
    throw new FirectlError(
      "DIGEST_MISMATCH",
      `manifest ${digest} is damaged in the store, so what it uses cannot be told: it has the digest ${actual}`,
      { hint: `${FETCH_AGAIN}, or remove it with firectl rmi` },
    );
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot read manifest ${file}`, error);
  } finally {
    await handle?.close();
  }
}

function descriptorsIn(value: unknown): BlobInUse[] {
  return (Array.isArray(value) ? value : [value]).flatMap((item: unknown) => {
    const [digestText, mediaType] = [field(item, "digest"), field(item, "mediaType")];
    const digest = typeof digestText === "string" ? parseDigest(digestText) : undefined;
    return digest === undefined
      ? []
      : [{ digest, mediaType: typeof mediaType === "string" ? mediaType : "" }];
  });
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

async function removeMatching(
  directory: string,
  isGarbage: (name: string, ageMs: number) => boolean,
): Promise<{ count: number; bytes: number }> {
  let [count, bytes] = [0, 0];
  for (const name of await namesIn(directory)) {
    const file = path.join(directory, name);
    const stats = await lstat(file).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at ${file}`, error);
    });
    // Nothing but files is ever put here: anything else is someone's own business.
    if (stats?.isFile() !== true || !isGarbage(name, Date.now() - stats.mtimeMs)) continue;
    await rm(file, { force: true });
    count += 1;
    bytes += stats.blocks * STAT_BLOCK_BYTES;
  }
  return { count, bytes };
}
