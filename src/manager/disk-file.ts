import { lstat, readdir } from "node:fs/promises";
import path from "node:path";
import { errnoOf } from "../core/errors.ts";
import { ioError } from "../host/files.ts";

/** A file, or a directory with all that is in it, as the disk has it. */
export interface DiskFile {
  readonly path: string;
  /** Real blocks, in bytes; holes take nothing. */
  readonly diskBytes: number;
  readonly modifiedMs: number;
}

/** `st_blocks` counts in these, whatever the filesystem's own blocks are: stat(2). */
const STAT_BLOCK_BYTES = 512;

/** Looks at a file or directory; undefined when it is not there. Symbolic links are not followed. */
export async function diskFile(file: string): Promise<DiskFile | undefined> {
  try {
    const stats = await lstat(file);
    const own = stats.blocks * STAT_BLOCK_BYTES;
    if (!stats.isDirectory()) return { path: file, diskBytes: own, modifiedMs: stats.mtimeMs };
    const parts = await Promise.all((await readdir(file)).map((name) => diskFile(path.join(file, name))));
    return {
      path: file,
      diskBytes: parts.reduce((sum, part) => sum + (part?.diskBytes ?? 0), own),
      modifiedMs: stats.mtimeMs,
    };
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot look at ${file}`, error);
  }
}
