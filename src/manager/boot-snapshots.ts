import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { errnoOf } from "../core/errors.ts";
import { ioError } from "../host/files.ts";
import { type DiskFile, diskFile } from "./disk-file.ts";

/** Where the snapshots are that guests go on from instead of booting: boot of the host / image's filesystem / kind of VM. */
export function bootSnapshotsDirectory(dataDirectory: string): string {
  return path.join(dataDirectory, "boot-snapshots");
}

/** The snapshots of each boot of the host, by its id. */
export async function listBootSnapshots(
  dataDirectory: string,
): Promise<readonly (DiskFile & { boot: string })[]> {
  const directory = bootSnapshotsDirectory(dataDirectory);
  const files = await Promise.all(
    (await namesIn(directory)).map(async (boot) => ({
      boot,
      file: await diskFile(path.join(directory, boot)),
    })),
  );
  return files.flatMap(({ boot, file }) => (file === undefined ? [] : [{ ...file, boot }]));
}

/** Removes the snapshots of a filesystem that is no more. */
export async function removeBootSnapshots(dataDirectory: string, basePath: string): Promise<void> {
  const directory = bootSnapshotsDirectory(dataDirectory);
  for (const boot of await namesIn(directory)) {
    await rm(path.join(directory, boot, path.basename(basePath)), { recursive: true, force: true });
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw ioError(`cannot read ${directory}`, error);
  }
}
