import path from "node:path";
import { type Digest, parseDigest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { readTextIfPresent, writeFileAtomic } from "../../host/files.ts";
import { normalise, type Platform } from "../platform.ts";

/**
 * `index.json` of the store, an OCI image layout:
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md#indexjson-file
 * Read on the way of every `run`, so by hand and not with zod, whose loading alone takes longer than all of it.
 */

/** The reference's full form; skopeo and umoci select by it. */
const REF_NAME = "org.opencontainers.image.ref.name";
/** What the reference resolved to where it came from: a registry's digest, Docker's image id. */
const ORIGIN = "io.firectl.image.origin";

/** An image that `index.json` names. */
export interface IndexEntry {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Of the manifest, in bytes. */
  readonly size: number;
  readonly reference: string | undefined;
  readonly platform: Platform | undefined;
  readonly origin: string | undefined;
}

/** Other tools' fields and entries are carried along as they are. */
interface IndexFile {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly entries: readonly { readonly raw: unknown; readonly entry: IndexEntry | undefined }[];
}

/**
 * The images that the layout in `directory` names; none when it has no `index.json`.
 * @throws FirectlError STATE_CORRUPT.
 */
export async function readIndex(directory: string): Promise<readonly IndexEntry[]> {
  const { entries } = await readIndexFile(directory);
  return entries.flatMap(({ entry }) => (entry === undefined ? [] : [entry]));
}

/**
 * Adds `added` in place of entries that `replaces` selects. The caller holds the lock.
 * @throws FirectlError STATE_CORRUPT, NO_SPACE.
 */
export async function rewriteIndex(
  directory: string,
  change: { replaces: (entry: IndexEntry) => boolean; added?: IndexEntry },
): Promise<number> {
  const { fields, entries } = await readIndexFile(directory);
  const kept = entries.filter(({ entry }) => entry === undefined || !change.replaces(entry));
  const manifests = kept.map(({ raw }) => raw);
  if (change.added !== undefined) manifests.push(writtenEntry(change.added));
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    ...fields,
    manifests,
  };
  await writeFileAtomic(indexPath(directory), `${JSON.stringify(index, undefined, 2)}\n`, { mode: 0o644 });
  return entries.length - kept.length;
}

function indexPath(directory: string): string {
  return path.join(directory, "index.json");
}

async function readIndexFile(directory: string): Promise<IndexFile> {
  const text = await readTextIfPresent(indexPath(directory));
  if (text === undefined) return { fields: {}, entries: [] };
  const value = parseObject(text);
  const manifests = value?.["manifests"];
  if (value === undefined || !Array.isArray(manifests)) {
    throw new FirectlError(
      "STATE_CORRUPT",
      `${indexPath(directory)} is not the index of an OCI image layout`,
      {
        hint: "move it aside and pull the images again; their blobs are kept and not fetched twice",
      },
    );
  }
  const { manifests: _, ...fields } = value;
  return { fields, entries: manifests.map((raw: unknown) => ({ raw, entry: readEntry(raw) })) };
}

function readEntry(raw: unknown): IndexEntry | undefined {
  const fields = asObject(raw);
  const { mediaType, digest: digestText, size } = fields ?? {};
  const digest = typeof digestText === "string" ? parseDigest(digestText) : undefined;
  if (typeof mediaType !== "string" || digest === undefined) return undefined;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return undefined;
  const annotations = asObject(fields?.["annotations"]);
  return {
    mediaType,
    digest,
    size,
    reference: asText(annotations?.[REF_NAME]),
    platform: readPlatform(asObject(fields?.["platform"])),
    origin: asText(annotations?.[ORIGIN]),
  };
}

function readPlatform(fields: Readonly<Record<string, unknown>> | undefined): Platform | undefined {
  const [os, architecture] = [asText(fields?.["os"]), asText(fields?.["architecture"])];
  if (os === undefined || architecture === undefined) return undefined;
  return normalise(os, architecture, asText(fields?.["variant"]));
}

function writtenEntry(entry: IndexEntry): unknown {
  return {
    mediaType: entry.mediaType,
    digest: entry.digest,
    size: entry.size,
    ...(entry.platform === undefined ? {} : { platform: entry.platform }),
    annotations: {
      ...(entry.reference === undefined ? {} : { [REF_NAME]: entry.reference }),
      ...(entry.origin === undefined ? {} : { [ORIGIN]: entry.origin }),
    },
  };
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function asObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  // Any object of JSON.parse has string keys and unknown values.
  return value as Readonly<Record<string, unknown>>;
}

function asText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
