import { rm } from "node:fs/promises";
import path from "node:path";
import { tryFileLock } from "../host/file-lock.ts";
import { namesIn } from "../host/files.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { removeBootSnapshots } from "./boot-snapshots.ts";
import type { Context } from "./context.ts";
import { dataLock, dataLocksDirectory } from "./data-locks.ts";
import { type DiskFile, diskFile } from "./disk-file.ts";

/** A file in the directory of the filesystems built from images. */
export interface BaseFile extends DiskFile {
  /** What it was built from, see `baseKeyOf`; undefined for a file that is no filesystem's. */
  readonly key: string | undefined;
  /** Still being built, or left by a builder that was killed. */
  readonly isUnfinished: boolean;
}

const NAME = /^(([0-9a-f]{64})(?:-\d+)?)\.ext4(\.[^.]*\.tmp)?$/;
const BASE_LOCK = /^base-[0-9a-f]{64}(?:-\d+)?\.lock$/;

/** The filesystems that VMs on record read, by path. */
export function basesOf(records: readonly VmRecord[]): ReadonlySet<string> {
  return new Set(records.flatMap(({ machine }) => machine?.drives.map((drive) => drive.path) ?? []));
}

/** Where the filesystems built from images lie. */
export function baseDirectoryOf(context: Context): string {
  return path.join(context.directories.data, "base");
}

/**
 * The lock of whoever builds the filesystem `name`, its file's name without the ending. Taken with the store held,
 * by which {@link removeBases} knows that nobody has it.
 */
export function baseLock(context: Context, name: string): Promise<string> {
  return dataLock(context, `base-${name}`);
}

/** All files there, finished or not; none when nothing was ever built. */
export async function listBaseFiles(context: Context): Promise<readonly BaseFile[]> {
  const directory = baseDirectoryOf(context);
  const names = await namesIn(directory);
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
    await tryFileLock(await baseLock(context, name), async () => {
      await rm(file.path, { force: true });
      removed.push(file);
    });
  }
  return removed;
}

/**
 * Removes the finished bases for which `isUsed` is false, and the locks. The caller has the store alone: nobody
 * builds. Returns what went.
 */
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
  await removeBaseLocks(context);
  return unused;
}

/** A sweep that still has one open looks for a file that was there before: no builder's who comes after us. */
async function removeBaseLocks(context: Context): Promise<void> {
  const directory = dataLocksDirectory(context);
  for (const name of await namesIn(directory)) {
    if (BASE_LOCK.test(name)) await rm(path.join(directory, name), { force: true });
  }
}
