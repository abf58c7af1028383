import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { errnoOf } from "../core/errors.ts";
import { tryFileLock } from "../host/file-lock.ts";
import { ioError } from "../host/files.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { removeBootSnapshots } from "./boot-snapshots.ts";
import type { Context } from "./context.ts";
import { type DiskFile, diskFile } from "./disk-file.ts";

/** A file in the directory of the filesystems built from images. */
export interface BaseFile extends DiskFile {
  /** What it was built from, see `baseKeyOf`; undefined for a file that is no filesystem's. */
  readonly key: string | undefined;
  /** Still being built, or left by a builder that was killed. */
  readonly isUnfinished: boolean;
}

const NAME = /^(([0-9a-f]{64})(?:-\d+)?)\.ext4(\.[^.]*\.tmp)?$/;

/** The filesystems that VMs on record read, by path. */
export function basesOf(records: readonly VmRecord[]): ReadonlySet<string> {
  return new Set(records.flatMap(({ machine }) => machine?.drives.map((drive) => drive.path) ?? []));
}

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
  const found = await diskFile(file);
  if (found === undefined) return undefined;
  const [, , key, suffix] = NAME.exec(path.basename(file)) ?? [];
  return { ...found, key, isUnfinished: suffix !== undefined };
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
  for (const file of unused) {
    await rm(file.path, { force: true });
    await removeBootSnapshots(context.directories.data, file.path);
  }
  return unused;
}
