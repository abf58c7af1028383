import { FirectlError } from "../core/errors.ts";
import { nameParts } from "./image-names.ts";
import type { LocalImage } from "./local-image.ts";
import { locationName, parseImageLocation } from "./reference.ts";

/** An image as it can be chosen from among others. */
export interface Selectable {
  /** The name in full; undefined for an image whose name has gone to another, or that never had one. */
  readonly name: string | undefined;
  readonly formerName: string | undefined;
  /** Digest of the index that it was taken from, where it was. */
  readonly origin: string | undefined;
  readonly image: Pick<LocalImage, "manifestDigest" | "configDigest">;
}

/** What a text names: a name (all platforms of it), or a manifest. */
export interface Selection<Item> {
  readonly by: "name" | "digest";
  /** Not empty. */
  readonly items: readonly Item[];
}

/** Shorter beginnings of a digest are taken for names only. */
const MIN_PREFIX = 3;
const SHOWN_DIGITS = 19;

/**
 * The images that `text` names, in Docker's order: a name (`fullName` is its full form, undefined when it
 * cannot be one), `NAME@DIGEST`, a digest, a beginning of a digest that only one image has. Digests are those
 * of manifest, index and configuration. Undefined when there is none.
 * @throws FirectlError AMBIGUOUS_NAME.
 */
export function selectImages<Item extends Selectable>(
  items: readonly Item[],
  text: string,
  fullName: string | undefined,
): Selection<Item> | undefined {
  const named = fullName === undefined ? [] : items.filter(({ name }) => name === fullName);
  if (named.length > 0) return { by: "name", items: named };
  const pinned = /^(.*)@(sha256:[0-9a-f]{64})$/.exec(fullName ?? "");
  if (pinned !== null) {
    const [, name = "", digest = ""] = pinned;
    const { repository } = nameParts(name);
    const ofRepository = items.filter((item) =>
      [item.name, item.formerName].some(
        (each) => each !== undefined && nameParts(each).repository === repository,
      ),
    );
    return select(ofRepository, digest, text);
  }
  const prefix = digestPrefixIn(text);
  return prefix === undefined ? undefined : select(items, `sha256:${prefix}`, text);
}

/**
 * Whether somebody who has asked for `reference`, a path in it being absolute, may have got this image: it has
 * that name, or has had it.
 */
export function mayMean(item: Selectable, reference: string): boolean {
  try {
    const isDigest = /^(?:sha256:)?[0-9a-f]{64}$/.test(reference);
    const location = isDigest ? undefined : parseImageLocation(reference);
    const fullName = location === undefined ? undefined : locationName(location);
    if (fullName !== undefined && [item.name, item.formerName].includes(fullName)) return true;
    return selectImages([item], reference, fullName) !== undefined;
  } catch (error) {
    // No name at all; one image alone is never ambiguous.
    if (error instanceof FirectlError) return false;
    throw error;
  }
}

/** The hexadecimal digits when `text` may be a digest or the beginning of one. */
export function digestPrefixIn(text: string): string | undefined {
  const digits = /^(?:sha256:)?([0-9a-f]+)$/.exec(text)?.[1];
  return digits === undefined || digits.length < MIN_PREFIX || digits.length > 64 ? undefined : digits;
}

/** Whether `text` is the beginning of a digest that is too short to be taken for one. */
export function isTooShortForDigest(text: string): boolean {
  const digits = /^(?:sha256:)?([0-9a-f]+)$/.exec(text)?.[1];
  return digits !== undefined && digits.length < MIN_PREFIX;
}

function select<Item extends Selectable>(
  items: readonly Item[],
  prefix: string,
  text: string,
): Selection<Item> | undefined {
  const matching = items.filter(({ origin, image }) =>
    [image.manifestDigest, image.configDigest, origin].some((digest) => digest?.startsWith(prefix)),
  );
  const digests = [...new Set(matching.map(({ image }) => image.manifestDigest))];
  if (digests.length === 0) return undefined;
  // An index stands for the images of all its platforms.
  const isWhole = matching.every(({ origin }) => origin?.startsWith(prefix) === true) && isSame(matching);
  if (digests.length > 1 && !isWhole) {
    const shown = digests.slice(0, 5).map((digest) => digest.slice(0, SHOWN_DIGITS));
    throw new FirectlError(
      "AMBIGUOUS_NAME",
      `"${text}" is the beginning of ${digests.length} image digests`,
      {
        hint: `write more of it: ${shown.join(", ")}`,
      },
    );
  }
  return { by: "digest", items: matching };
}

function isSame(items: readonly Selectable[]): boolean {
  return new Set(items.map(({ origin }) => origin)).size === 1;
}
