import path from "node:path";
import { type Digest, parseDigest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { readTextIfPresent, writeFileAtomic } from "../../host/files.ts";
import { OCI_MANIFEST } from "../media-types.ts";
import { normalise, type Platform } from "../platform.ts";
import { normalisedReference, parseReference } from "../reference.ts";

/**
 * `index.json` of the store, an OCI image layout:
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md#indexjson-file
 * Read on the way of every `run`, so by hand and not with zod, whose loading alone takes longer than all of it.
 *
 * skopeo and umoci find an image by `org.opencontainers.image.ref.name`, take the first that has the name they
 * look for, refuse names outside the specification's grammar, and see OCI manifests only. So our own name, which
 * may be any, stands in an annotation of its own; of several entries with one name (platforms) the newest has
 * the ref.name; and an image that came with a manifest of Docker's is entered by the OCI form of it, with the
 * original in annotations.
 */
const REF_NAME = "org.opencontainers.image.ref.name";
/** The name in full. */
const NAME = "io.firectl.image.name";
/** The name that the image had before another one was given it. */
const FORMER_NAME = "io.firectl.image.former-name";
/** What the reference resolved to where it came from: a registry's digest, Docker's image id. */
const ORIGIN = "io.firectl.image.origin";
/** Media type, digest and size of the manifest that came in, where the entry shows its OCI form. */
const ORIGINAL = "io.firectl.image.original";

/** https://github.com/opencontainers/image-spec/blob/main/annotations.md, the grammar of ref.name. */
const REF_NAME_FORM =
  /^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:\/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$/;

/** An image that `index.json` names. */
export interface IndexEntry {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Of the manifest, in bytes. */
  readonly size: number;
  /** Undefined for an image without a name. */
  readonly reference: string | undefined;
  readonly formerReference?: string | undefined;
  readonly platform: Platform | undefined;
  readonly origin: string | undefined;
  /** The same image's manifest in OCI's form, where `mediaType` is Docker's. */
  readonly ociForm?: { readonly digest: Digest; readonly size: number } | undefined;
  /** The entry as it was read: what other tools wrote into it stays. */
  readonly raw?: Fields | undefined;
}

type Fields = Readonly<Record<string, unknown>>;

/** Makes the new list of entries of the old one, in the order in which they came. */
export type IndexChange = (entries: readonly IndexEntry[]) => readonly IndexEntry[];

interface IndexFile {
  readonly fields: Fields;
  readonly entries: readonly IndexEntry[];
  /** What is no entry that we understand is carried along. */
  readonly others: readonly unknown[];
}

/**
 * The images that the layout in `directory` names; none when it has no `index.json`.
 * @throws FirectlError STATE_CORRUPT.
 */
export async function readIndex(directory: string): Promise<readonly IndexEntry[]> {
  return (await readIndexFile(directory)).entries;
}

/**
 * Changes the entries. The caller holds the lock.
 * @throws FirectlError STATE_CORRUPT, NO_SPACE.
 */
export async function rewriteIndex(directory: string, change: IndexChange): Promise<void> {
  const { fields, entries, others } = await readIndexFile(directory);
  const changed = change(entries);
  // The newest of each name.
  const addressed = new Map(changed.map((entry) => [entry.reference, entry]));
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    ...fields,
    manifests: [
      ...others,
      ...changed.map((entry) => writtenEntry(entry, addressed.get(entry.reference) === entry)),
    ],
  };
  await writeFileAtomic(indexPath(directory), `${JSON.stringify(index, undefined, 2)}\n`, { mode: 0o644 });
}

function indexPath(directory: string): string {
  return path.join(directory, "index.json");
}

async function readIndexFile(directory: string): Promise<IndexFile> {
  const text = await readTextIfPresent(indexPath(directory));
  if (text === undefined) return { fields: {}, entries: [], others: [] };
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
  const entries = manifests.map((raw: unknown) => readEntry(raw));
  return {
    fields,
    entries: withoutEchoes(oneOfEachName(entries.filter((entry) => entry !== undefined))),
    others: manifests.filter((_raw, index) => entries[index] === undefined),
  };
}

/**
 * Another tool that gives our image's name to an image of its own only takes the ref.name away from ours, which
 * then has had the name. skopeo writes no platform: such an image has the name for all of them.
 */
function oneOfEachName(entries: readonly IndexEntry[]): readonly IndexEntry[] {
  const owners = new Map<string, IndexEntry>();
  const foreign = new Map<string, IndexEntry>();
  for (const entry of entries) {
    if (entry.reference === undefined) continue;
    if (annotationsOf(entry)?.[NAME] === undefined) foreign.set(entry.reference, entry);
    else owners.set(nameAndPlatform(entry), entry);
  }
  const hasName = (entry: IndexEntry): boolean => {
    const other = foreign.get(entry.reference ?? "");
    if (other === entry) return true;
    if (other === undefined) return owners.get(nameAndPlatform(entry)) === entry;
    return other.platform !== undefined && nameAndPlatform(other) !== nameAndPlatform(entry);
  };
  return entries.map((entry) =>
    entry.reference === undefined || hasName(entry)
      ? entry
      : { ...entry, reference: undefined, formerReference: entry.reference },
  );
}

/** An image that has a name needs no entry without one, and one without any needs one entry. */
function withoutEchoes(entries: readonly IndexEntry[]): readonly IndexEntry[] {
  const seen = new Set(entries.flatMap(({ reference, digest }) => (reference === undefined ? [] : [digest])));
  return entries.filter(({ reference, digest }) => {
    if (reference !== undefined) return true;
    const isEcho = seen.has(digest);
    seen.add(digest);
    return !isEcho;
  });
}

function nameAndPlatform({ reference, platform }: IndexEntry): string {
  return [reference, platform?.os, platform?.architecture, platform?.variant].join("\n");
}

function annotationsOf({ raw }: IndexEntry): Fields | undefined {
  return asObject(raw?.["annotations"]);
}

function readEntry(value: unknown): IndexEntry | undefined {
  const raw = asObject(value);
  const shown = readDescriptor(raw);
  if (raw === undefined || shown === undefined) return undefined;
  const annotations = asObject(raw["annotations"]);
  const original = readOriginal(asText(annotations?.[ORIGINAL]));
  const former = asText(annotations?.[FORMER_NAME]);
  return {
    ...(original ?? shown),
    reference: asText(annotations?.[NAME]) ?? nameOfRefName(asText(annotations?.[REF_NAME])),
    platform: readPlatform(asObject(raw["platform"])),
    origin: asText(annotations?.[ORIGIN]),
    ...(former === undefined ? {} : { formerReference: former }),
    ...(original === undefined ? {} : { ociForm: { digest: shown.digest, size: shown.size } }),
    raw,
  };
}

function readDescriptor(
  fields: Fields | undefined,
): Pick<IndexEntry, "mediaType" | "digest" | "size"> | undefined {
  const { mediaType, digest: digestText, size } = fields ?? {};
  const digest = typeof digestText === "string" ? parseDigest(digestText) : undefined;
  if (typeof mediaType !== "string" || digest === undefined) return undefined;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return undefined;
  return { mediaType, digest, size };
}

/** `MEDIATYPE DIGEST SIZE`: annotations are texts. */
function readOriginal(text: string | undefined): ReturnType<typeof readDescriptor> {
  const [mediaType, digest, size] = text?.split(" ") ?? [];
  return readDescriptor({ mediaType, digest, size: size === undefined ? undefined : Number(size) });
}

/** The full form of a name that another tool has given: skopeo may have written `busybox:1`. */
function nameOfRefName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  try {
    return normalisedReference(parseReference(name));
  } catch {
    return name;
  }
}

function readPlatform(fields: Fields | undefined): Platform | undefined {
  const [os, architecture] = [asText(fields?.["os"]), asText(fields?.["architecture"])];
  if (os === undefined || architecture === undefined) return undefined;
  return normalise(os, architecture, asText(fields?.["variant"]));
}

function writtenEntry(entry: IndexEntry, isNewest: boolean): unknown {
  const { raw = {}, reference, formerReference, origin, ociForm, mediaType, digest, size } = entry;
  const {
    [REF_NAME]: _refName,
    [NAME]: _name,
    [FORMER_NAME]: _former,
    [ORIGIN]: _origin,
    [ORIGINAL]: _original,
    ...others
  } = annotationsOf(entry) ?? {};
  return {
    ...raw,
    ...(ociForm === undefined ? { mediaType, digest, size } : { mediaType: OCI_MANIFEST, ...ociForm }),
    ...(entry.platform === undefined ? {} : { platform: entry.platform }),
    annotations: {
      ...others,
      ...(reference === undefined ? {} : { [NAME]: reference }),
      ...(reference === undefined || !isNewest ? {} : { [REF_NAME]: refNameFor(reference, digest) }),
      ...(reference !== undefined || formerReference === undefined ? {} : { [FORMER_NAME]: formerReference }),
      ...(origin === undefined ? {} : { [ORIGIN]: origin }),
      ...(ociForm === undefined ? {} : { [ORIGINAL]: `${mediaType} ${digest} ${size}` }),
    },
  };
}

/** The name for other tools: ours where its form allows it, else the digest. */
function refNameFor(reference: string, digest: Digest): string {
  return REF_NAME_FORM.test(reference) ? reference : digest;
}

function parseObject(text: string): Fields | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function asObject(value: unknown): Fields | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  // Any object of JSON.parse has string keys and unknown values.
  return value as Fields;
}

function asText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
