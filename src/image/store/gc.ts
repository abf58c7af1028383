import { lstat, readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { type Digest, digestHex, parseDigest } from "../../core/brands.ts";
import { errnoOf } from "../../core/errors.ts";
import { MAX_MANIFEST_BYTES } from "../manifest.ts";
import { isIndex, isManifest } from "../media-types.ts";
import type { ContentStore } from "./content-store.ts";

/** An interrupted download is kept this long, to be resumed. */
const PARTIAL_LIFETIME_MS = 24 * 3_600_000;
const ABANDONED_AFTER_MS = 3_600_000;
/** Deeper than any index that is accepted on the way in. */
const MAX_DEPTH = 8;

export interface Collected {
  readonly blobs: number;
  readonly bytes: number;
}

/**
 * Deletes the blobs that no image uses, abandoned temporary files and locks. It waits until nobody pulls or
 * reads, and keeps them out meanwhile; so what it sees unused is unused.
 * @throws FirectlError LOCK_TIMEOUT when the store is in use for longer than `timeoutMs`.
 */
export function collectGarbage(store: ContentStore, options: { timeoutMs: number }): Promise<Collected> {
  return store.alone(options.timeoutMs, async () => {
    const used = new Set<string>();
    for (const entry of await store.index()) {
      await mark(store, { digest: entry.digest, mediaType: entry.mediaType }, { used, depth: 0 });
    }
    await removeMatching(path.join(store.root, "images"), (name) => !used.has(name.replace(/\.json$/, "")));
    await removeMatching(path.join(store.root, "locks"), (name) => /^[0-9a-f]{64}\.lock$/.test(name));
    // Notes of containers stay until the containers are gone.
    await removeMatching(path.join(store.root, "ingest"), (name, ageMs) => {
      return name.endsWith(".partial") ? ageMs > PARTIAL_LIFETIME_MS : name.endsWith(".tmp");
    });
    // The index is also written without holding the store, which takes milliseconds.
    await removeMatching(store.root, (name, ageMs) => name.endsWith(".tmp") && ageMs > ABANDONED_AFTER_MS);
    return removeMatching(path.join(store.root, "blobs", "sha256"), (name) => !used.has(name));
  });
}

async function mark(
  store: ContentStore,
  blob: { digest: Digest; mediaType: string },
  state: { used: Set<string>; depth: number },
): Promise<void> {
  const hex = digestHex(blob.digest);
  if (state.used.has(hex)) return;
  state.used.add(hex);
  if (!isIndex(blob.mediaType) && !isManifest(blob.mediaType)) return;
  const children = state.depth < MAX_DEPTH ? await childrenOf(store, blob.digest) : [];
  for (const child of children) await mark(store, child, { used: state.used, depth: state.depth + 1 });
}

/** Read loosely: another tool's manifest may hold what firectl would not take, and still be in use. */
async function childrenOf(
  store: ContentStore,
  digest: Digest,
): Promise<readonly { digest: Digest; mediaType: string }[]> {
  const size = await stat(store.blobPath(digest)).then(
    (stats) => stats.size,
    () => undefined,
  );
  if (size === undefined || size > MAX_MANIFEST_BYTES) return [];
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(await store.readBlob({ digest, size })).toString("utf8"));
  } catch {
    return [];
  }
  return ["manifests", "layers", "config"].flatMap((name) => descriptorsIn(field(document, name)));
}

function descriptorsIn(value: unknown): { digest: Digest; mediaType: string }[] {
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
): Promise<Collected> {
  let [blobs, bytes] = [0, 0];
  for (const name of await namesIn(directory)) {
    const file = path.join(directory, name);
    const stats = await lstat(file);
    // Nothing but files is ever put here: anything else is someone's own business.
    if (!stats.isFile() || !isGarbage(name, Date.now() - stats.mtimeMs)) continue;
    await rm(file, { force: true });
    blobs += 1;
    bytes += stats.size;
  }
  return { blobs, bytes };
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
