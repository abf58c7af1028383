import path from "node:path";
import { FirectlError } from "../../core/errors.ts";

/*
 * Where a copy goes, by the rules of docker's cp:
 * https://docs.docker.com/reference/cli/docker/container/cp/#description
 */

/** A path as a copy names it. */
export interface CopyPath {
  /** Absolute, without "." and ".." and without a slash at the end. */
  readonly path: string;
  /** It ended in `/.`: what is in the directory is meant, not the directory. */
  readonly isContents: boolean;
  /** It ended in a slash, or in `/.`: it must be a directory. */
  readonly isDirectory: boolean;
}

/** What is at the destination of a copy. */
export interface Destination {
  readonly path: CopyPath;
  readonly is: "absent" | "directory" | "other";
}

/** Where the entries of a copy go: into `directory`, the first one as `name`; undefined: into the directory itself. */
export interface Placement {
  readonly directory: string;
  readonly name: string | undefined;
}

/** Reads a path that is relative to `from`. */
export function readCopyPath(text: string, from: string): CopyPath {
  const last = text.split("/").at(-1) ?? "";
  const isContents = last === ".";
  return { path: path.posix.resolve(from, text), isContents, isDirectory: last === "" || isContents };
}

/** The path as it is looked up: what ends in a slash is a directory, through a link too. */
export function lookedUp({ path, isDirectory }: CopyPath): string {
  return isDirectory && path !== "/" ? `${path}/` : path;
}

/**
 * Where what is at `source` goes.
 * @throws FirectlError INVALID_ARGUMENT for what docker refuses.
 */
export function placeCopy(
  source: { readonly path: CopyPath; readonly isDirectory: boolean },
  destination: Destination,
): Placement {
  const { path: to, is } = destination;
  const base = path.posix.basename(source.path.path);
  if (is === "directory") {
    const isContents = source.path.isContents || base === "";
    return { directory: to.path, name: isContents ? undefined : base };
  }
  if (is === "other" && source.isDirectory) {
    throw new FirectlError("INVALID_ARGUMENT", `cannot copy a directory to ${to.path}, which is none`);
  }
  if (is === "other" && to.isDirectory) throw notADirectory(to.path);
  if (is === "absent" && !source.isDirectory && to.isDirectory) {
    throw new FirectlError("FILE_NOT_FOUND", `there is no directory ${to.path} to copy a file into`);
  }
  return { directory: path.posix.dirname(to.path), name: path.posix.basename(to.path) };
}

/** @returns the error for a destination that must be a directory. */
export function notADirectory(what: string): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `the destination ${what} must be a directory`);
}
