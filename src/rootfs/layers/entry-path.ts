import { MAX_NAME_BYTES } from "../ext4/tree.ts";

/** Longest path and link target the kernel takes, less its NUL. */
const MAX_PATH_BYTES = 4095;

/** Why a path cannot be used, or the path cleaned. */
export type CleanPath =
  | { readonly path: string; readonly problem?: undefined }
  | { readonly problem: string; readonly path?: undefined };

/**
 * Cleans an entry's path as Docker does: lexically, a leading slash meaning the image's root, `.` and doubled
 * slashes dropped, `a/..` taken back. A path that would leave the root is refused, as Docker refuses it. The
 * root itself is the empty string.
 */
export function cleanPath(raw: string): CleanPath {
  if (raw.length > MAX_PATH_BYTES)
    return { problem: `a path of ${raw.length} bytes, at most ${MAX_PATH_BYTES}` };
  const trimmed = trim(raw);
  const path = isClean(trimmed) ? trimmed : cleanParts(raw);
  if (path === undefined) return { problem: "the path leads out of the image" };
  return hasLongName(path) ? { problem: `a name of more than ${MAX_NAME_BYTES} bytes` } : { path };
}

/** Without the `./` that many tools put before a path, and the slash that they put behind a directory. */
function trim(path: string): string {
  const start = path.startsWith("./") ? 2 : 0;
  return path.slice(start, path.endsWith("/") && path.length > start ? -1 : undefined);
}

/** The usual case, found without taking the path apart. */
function isClean(path: string): boolean {
  return (
    path !== "" &&
    !path.startsWith("/") &&
    !path.startsWith(".") &&
    !path.endsWith("/") &&
    !path.includes("//") &&
    !path.includes("/.")
  );
}

function cleanParts(raw: string): string | undefined {
  const parts: string[] = [];
  for (const part of raw.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    // At the root of an absolute path `..` stays there; a relative one would leave.
    else if (parts.pop() === undefined && !raw.startsWith("/")) return undefined;
  }
  return parts.join("/");
}

function hasLongName(path: string): boolean {
  if (path.length <= MAX_NAME_BYTES) return false;
  let start = 0;
  while (start < path.length) {
    const slash = path.indexOf("/", start);
    const end = slash < 0 ? path.length : slash;
    if (end - start > MAX_NAME_BYTES) return true;
    start = end + 1;
  }
  return false;
}
