import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import { descriptorPath } from "./files.ts";

/** Of fcntl.h, the same on x86_64 and arm64; Node has no name for it. */
const O_PATH = 0o10000000;
const FLAGS = O_PATH | constants.O_NOFOLLOW;

/**
 * Opens, for nothing but to name it, a path that had no links when it was put on record. A guest that shares a
 * directory above can have put one there since: it would lead wherever that guest likes.
 * @param act What is not possible otherwise, for errors: "cannot share /dir".
 * @returns A descriptor, to be closed by the caller.
 * @throws FirectlError IO_FAILED when there is a link, FILE_NOT_FOUND, PERMISSION_DENIED.
 */
export function openWithoutLinks(file: string, act: string): number {
  let reached = "";
  let fd = openSync("/", FLAGS);
  for (const name of file.split("/").filter((part) => part !== "")) {
    reached += `/${name}`;
    const directory = fd;
    try {
      fd = openName(directory, name);
    } catch (error) {
      throw openError(`${act}: cannot open ${reached}`, error);
    } finally {
      closeSync(directory);
    }
    if (!fstatSync(fd).isSymbolicLink()) continue;
    closeSync(fd);
    throw new FirectlError(
      "IO_FAILED",
      `${act}: ${reached} has become a symbolic link since the VM was made`,
      {
        hint: `if the link is yours, make the VM anew: firectl rm, then firectl run; else look at who can write to the directory it is in`,
      },
    );
  }
  return fd;
}

function openName(directory: number, name: string): number {
  const path = `${descriptorPath(directory)}/${name}`;
  try {
    // As a directory first: without that flag a filesystem that is mounted on demand would not be.
    return openSync(path, FLAGS | constants.O_DIRECTORY);
  } catch (error) {
    if (errnoOf(error) !== "ENOTDIR") throw error;
    return openSync(path, FLAGS);
  }
}

/** Node's own message would name the descriptor. */
function openError(act: string, error: unknown): FirectlError {
  switch (errnoOf(error)) {
    case "ENOENT":
      return new FirectlError("FILE_NOT_FOUND", `${act}: it does not exist`, { cause: error });
    case "EACCES":
    case "EPERM":
      return new FirectlError("PERMISSION_DENIED", `${act}: permission denied`, { cause: error });
    default:
      return new FirectlError("IO_FAILED", `${act}: ${errnoOf(error) ?? messageOf(error)}`, { cause: error });
  }
}
