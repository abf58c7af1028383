import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { type Descriptor, parseManifest } from "../manifest.ts";
import { OCI_INDEX } from "../media-types.ts";
import { choosePlatform, normalise, type Platform } from "../platform.ts";
import { normalisedReference, parseReference } from "../reference.ts";

/** https://github.com/opencontainers/image-spec/blob/main/annotations.md */
export const REF_NAME = "org.opencontainers.image.ref.name";
/** The name in full, as Docker and containerd write it; {@link REF_NAME} is only the tag then. */
export const CONTAINERD_NAME = "io.containerd.image.name";
/** An error lists no more tags than this. */
const MAX_LISTED_TAGS = 20;

/**
 * The images that `index.json` names.
 * @param what Names it in errors.
 * @throws FirectlError MANIFEST_INVALID.
 */
export function parseLayoutIndex(bytes: Uint8Array, what: string): readonly Descriptor[] {
  const parsed = parseManifest(bytes, { mediaType: OCI_INDEX, what });
  return parsed.kind === "index" ? parsed.index.manifests : [];
}

export interface EntryChoice {
  /** What holds the images, with its transport, for errors: `oci:DIR`. */
  readonly where: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  readonly platform: Platform;
}

/**
 * The entry that is meant.
 * @throws FirectlError IMAGE_NOT_FOUND, AMBIGUOUS_NAME.
 */
export function chooseEntry(entries: readonly Descriptor[], options: EntryChoice): Descriptor {
  const { where, tag, digest } = options;
  const candidates = entries.filter(
    (entry) =>
      (tag === undefined || isTagged(entry, tag)) && (digest === undefined || entry.digest === digest),
  );
  const [first] = candidates;
  if (first === undefined) {
    const tagged = tag === undefined ? "" : ` tagged ${JSON.stringify(tag)}`;
    const digested = digest === undefined ? "" : ` with the digest ${digest}`;
    throw new FirectlError(
      "IMAGE_NOT_FOUND",
      `${where} holds no image${tagged}${digested}${listTags(entries)}`,
    );
  }
  const names = new Set(candidates.map(labelOf));
  const digests = new Set(candidates.map((entry) => entry.digest));
  if (digests.size === 1) return first;
  if (names.size > 1) {
    throw new FirectlError("AMBIGUOUS_NAME", `${where} holds ${digests.size} images${listTags(entries)}`, {
      hint: `name one: ${where}:TAG`,
    });
  }
  return choosePlatformOf(candidates, options.platform) ?? first;
}

/** Of one name's images for several platforms, the one that serves `wanted` best. */
export function choosePlatformOf(entries: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  const platforms = entries.map(({ platform }) =>
    normalise(platform?.os ?? "unknown", platform?.architecture ?? "unknown", platform?.variant),
  );
  const index = choosePlatform(wanted, platforms);
  return index === undefined ? undefined : entries[index];
}

/** The full name that an entry gives its image; undefined when it gives none, or no more than a tag. */
export function nameOfEntry(entry: Descriptor): string | undefined {
  const name = entry.annotations?.[CONTAINERD_NAME];
  if (name !== undefined) return fullName(name);
  const refName = entry.annotations?.[REF_NAME];
  return refName !== undefined && /[:/]/.test(refName) ? fullName(refName) : undefined;
}

function isTagged(entry: Descriptor, tag: string): boolean {
  if (entry.annotations?.[REF_NAME] === tag) return true;
  const name = nameOfEntry(entry);
  return name !== undefined && name === fullName(tag);
}

function labelOf(entry: Descriptor): string | undefined {
  return entry.annotations?.[CONTAINERD_NAME] ?? entry.annotations?.[REF_NAME];
}

function listTags(entries: readonly Descriptor[]): string {
  const tags = [...new Set(entries.flatMap((entry) => labelOf(entry) ?? []))].sort();
  if (tags.length === 0) return "";
  const shown = tags.slice(0, MAX_LISTED_TAGS).map((tag) => JSON.stringify(tag.slice(0, 128)));
  return `; its tags are ${shown.join(", ")}${tags.length > shown.length ? ", …" : ""}`;
}

function fullName(text: string): string | undefined {
  try {
    return normalisedReference(parseReference(text));
  } catch {
    return undefined;
  }
}
