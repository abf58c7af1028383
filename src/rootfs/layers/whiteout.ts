/*
 * Whiteouts, https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts: an entry `.wh.NAME` takes
 * NAME away from the layers below, `.wh..wh..opq` everything in its directory. Names that begin with `.wh..wh.`
 * are AUFS's own: `.wh..wh.plnk/` holds files to which hard links may lead, the others mean nothing.
 */

const PREFIX = ".wh.";
const META_PREFIX = ".wh..wh.";
const OPAQUE = ".wh..wh..opq";

/** What the last part of an entry's path says about the layers below. */
export type Whiteout =
  | { readonly kind: "none" }
  | { readonly kind: "remove"; readonly name: string }
  | { readonly kind: "opaque" }
  | { readonly kind: "ignored" };

const NONE: Whiteout = { kind: "none" };

/** Reads the last part of a path; undefined for a whiteout of nothing, `.` or `..`, which no tool writes. */
export function parseWhiteout(name: string): Whiteout | undefined {
  if (!name.startsWith(PREFIX)) return NONE;
  if (name === OPAQUE) return { kind: "opaque" };
  if (name.startsWith(META_PREFIX)) return { kind: "ignored" };
  const removed = name.slice(PREFIX.length);
  if (removed === "" || removed === "." || removed === "..") return undefined;
  return { kind: "remove", name: removed };
}

/** Whether a directory of this name is AUFS's own: links may lead into it, but it is no part of the image. */
export function isAufsDirectory(name: string): boolean {
  return name.startsWith(META_PREFIX);
}
