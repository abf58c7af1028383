import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { namesIn } from "../host/files.ts";
import { agentMemoPath, initramfsPath } from "../kernel/initramfs.ts";
import { PMEM_MODULES } from "../kernel/modules.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { blankDiskPath, blankDisksDirectory } from "./blank-disks.ts";
import { bootSnapshotsDirectory, currentBootSnapshots } from "./boot-snapshots.ts";
import type { Context } from "./context.ts";
import { type DiskFile, diskFile } from "./disk-file.ts";
import { DEFAULT_DISK_BYTES } from "./vm-options.ts";

/** A file or directory that is made anew when it is missed. */
export interface CacheFile extends DiskFile {
  /** A VM on record boots from it, or the next one is likely to. */
  readonly inUse: boolean;
}

/**
 * The caches beside images and kernels: the initramfs of each kernel and agent, kernels that were given by
 * path, templates of blank disks, snapshots of guests that have booted, and what an import that was killed left among
 * the installed ones.
 */
export async function listCaches(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly CacheFile[]> {
  const { data } = context.directories;
  const booted = new Set(
    records.flatMap(({ machine, kernelPath }) => [
      kernelPath,
      ...(machine === null ? [] : [machine.bootSource.kernelImagePath, machine.bootSource.initrdPath]),
    ]),
  );
  const archives = await filesIn(path.join(data, "initramfs"));
  const current = archives.length === 0 ? undefined : await currentInitramfsFiles(context);
  const initramfs = archives.map((file) => ({
    ...file,
    inUse: booted.has(file.path) || current === undefined || current.has(file.path),
  }));
  const adopted = (await filesIn(path.join(data, "kernel-files"))).map((file) => ({
    ...file,
    inUse: [...booted].some((each) => each.startsWith(`${file.path}/`)),
  }));
  const unfinished = (await filesIn(path.join(data, "kernels")))
    .filter((file) => /^\..*\.tmp$/.test(path.basename(file.path)))
    .map((file) => ({ ...file, inUse: false }));
  const sizes = new Set([DEFAULT_DISK_BYTES, ...records.map(({ diskBytes }) => diskBytes)]);
  const wanted = new Set([...sizes].map((size) => blankDiskPath(data, size)));
  const blank = (await filesIn(blankDisksDirectory(data))).map((file) => ({
    ...file,
    inUse: wanted.has(file.path),
  }));
  const snapshots = (await filesIn(bootSnapshotsDirectory(data))).map((file) => ({
    ...file,
    inUse: file.path === currentBootSnapshots(data),
  }));
  return [...initramfs, ...adopted, ...unfinished, ...blank, ...snapshots];
}

/** What the installed kernels start with; undefined when that cannot be told, because the agent is missing. */
async function currentInitramfsFiles(context: Context): Promise<ReadonlySet<string> | undefined> {
  const { agentPath } = context;
  const cacheDir = path.join(context.directories.data, "initramfs");
  try {
    const kernels = await (await context.kernels()).list();
    const archives = await Promise.all(
      kernels.flatMap((kernel) =>
        [[], PMEM_MODULES].map((modules) => initramfsPath({ kernel, modules, agentPath, cacheDir })),
      ),
    );
    return new Set([...archives, await agentMemoPath({ agentPath, cacheDir })]);
  } catch (error) {
    if (error instanceof FirectlError) return undefined;
    throw error;
  }
}

async function filesIn(directory: string): Promise<readonly DiskFile[]> {
  const names = await namesIn(directory);
  const files = await Promise.all(names.map((name) => diskFile(path.join(directory, name))));
  return files.filter((file) => file !== undefined);
}
