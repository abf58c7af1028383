import type { Digest } from "../../core/brands.ts";
import type { IndexChange, IndexEntry } from "./index-file.ts";

/**
 * What happens to names, as in Docker: an image may have many; a name (for one platform) is one image's. An
 * image that loses its last name stays without any until it is forgotten.
 */

/** Enters an image that has been brought, by its name for its platform if it has one. */
export function enterImage(entry: IndexEntry): IndexChange {
  const isNameless = entry.reference === undefined;
  return (entries) => {
    if (isNameless && entries.some(({ digest }) => digest === entry.digest)) return entries;
    const isReplaced = (other: IndexEntry): boolean =>
      !isNameless && other.reference === entry.reference && isForPlatformOf(other, entry);
    return withNew(entries, { added: [entry], isReplaced });
  };
}

/** Gives `name`, whosever it is, to the images of `digests`; one of them must be there. */
export function giveName(name: string, digests: ReadonlySet<Digest>): IndexChange {
  return (entries) => {
    const named = entries.filter(({ digest }) => digests.has(digest));
    const unique = [...new Map(named.map((entry) => [entry.digest, entry])).values()];
    const added = unique.map((entry) => ({ ...entry, reference: name }));
    return withNew(entries, { added, isReplaced: ({ reference }) => reference === name });
  };
}

export interface Forgotten {
  /** The images that go with all their names. */
  readonly digests: ReadonlySet<Digest>;
  /** Of the others, the entries that lose their name. */
  readonly loses?: (entry: IndexEntry) => boolean;
}

/** Takes images and names away. */
export function forget({ digests, loses = () => false }: Forgotten): IndexChange {
  return (entries) => {
    const kept = entries.filter(({ digest }) => !digests.has(digest));
    return withoutNames(kept, loses);
  };
}

function withNew(
  entries: readonly IndexEntry[],
  change: { added: readonly IndexEntry[]; isReplaced: (entry: IndexEntry) => boolean },
): readonly IndexEntry[] {
  const { added } = change;
  const digests = new Set(added.map(({ digest }) => digest));
  // What stood there without a name has one again.
  const others = entries.filter((entry) => entry.reference !== undefined || !digests.has(entry.digest));
  return [...withoutNames(others, change.isReplaced, digests), ...added];
}

/** The entries for which `loses` is true lose their name; those of images named elsewhere go. */
function withoutNames(
  entries: readonly IndexEntry[],
  loses: (entry: IndexEntry) => boolean,
  named: ReadonlySet<Digest> = new Set(),
): readonly IndexEntry[] {
  const keep = new Set(named);
  for (const entry of entries) if (entry.reference !== undefined && !loses(entry)) keep.add(entry.digest);
  return entries.flatMap((entry) => {
    if (!loses(entry)) return [entry];
    if (keep.has(entry.digest)) return [];
    // Of several names that one image loses at once, the first is remembered.
    keep.add(entry.digest);
    return [{ ...entry, reference: undefined, formerReference: entry.reference }];
  });
}

/** What skopeo has put here is for no platform in particular. */
function isForPlatformOf(other: IndexEntry, { platform }: IndexEntry): boolean {
  return (
    other.platform === undefined ||
    (other.platform.architecture === platform?.architecture && other.platform.variant === platform.variant)
  );
}
