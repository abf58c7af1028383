import { lstat, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { errnoOf } from "../core/errors.ts";
import { tryFileLock } from "../host/file-lock.ts";
import { ioError } from "../host/files.ts";
import type { Context } from "./context.ts";

/** A file in the directory of the filesystems built from images. */
export interface BaseFile {
  readonly path: string;
  /** What it was built from, see `baseKeyOf`; undefined for a file that is no filesystem's. */
  readonly key: string | undefined;
  /** Still being built, or left by a builder that was killed. */
  readonly isUnfinished: boolean;
  /** What it takes on the disk, in bytes; holes take nothing. */
  readonly diskBytes: number;
}

const NAME = /^(([0-9a-f]{64})(?:-\d+)?)\.ext4(\.[^.]*\.tmp)?$/;
/** `st_blocks` counts in these, whatever the filesystem's own blocks are: stat(2). */
const STAT_BLOCK_BYTES = 512;

/** Where the filesystems built from images lie. */
export function baseDirectoryOf(context: Context): string {
  return path.join(context.directories.data, "base");
}

/** All files there, finished or not; none when nothing was ever built. */
export async function listBaseFiles(context: Context): Promise<readonly BaseFile[]> {
  const directory = baseDirectoryOf(context);
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return [];
    throw ioError(`cannot read ${directory}`, error);
  });
  const files = await Promise.all(names.map((name) => lookAt(path.join(directory, name))));
  return files.filter((file) => file !== undefined);
}

async function lookAt(file: string): Promise<BaseFile | undefined> {
  try {
    const stats = await lstat(file);
    if (!stats.isFile()) return undefined;
    const [, , key, suffix] = NAME.exec(path.basename(file)) ?? [];
    return {
      path: file,
      key,
      isUnfinished: suffix !== undefined,
      diskBytes: stats.blocks * STAT_BLOCK_BYTES,
    };
  } catch (error) {
    // Its builder has finished, or somebody has removed it.
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot look at ${file}`, error);
  }
}

/**
 * Removes what builders that were killed have left; a file whose builder still holds its lock stays. Returns
 * what went.
 */
export async function sweepUnfinishedBases(context: Context): Promise<readonly BaseFile[]> {
  const removed: BaseFile[] = [];
  for (const file of await listBaseFiles(context)) {
    const name = NAME.exec(path.basename(file.path))?.[1];
    if (!file.isUnfinished || name === undefined) continue;
    const lock = path.join(context.directories.runtime, `base-${name}.lock`);
    await tryFileLock(lock, async () => {
      await rm(file.path, { force: true });
      removed.push(file);
    });
  }
  return removed;
}

/** Removes the finished bases for which `isUsed` is false. Returns what went. */
export async function removeBases(
  context: Context,
  isUsed: (file: BaseFile) => boolean,
): Promise<readonly BaseFile[]> {
  const unused = (await listBaseFiles(context)).filter(
    (file) => file.key !== undefined && !file.isUnfinished && !isUsed(file),
  );
  for (const file of unused) await rm(file.path, { force: true });
  return unused;
}
