import { randomUUID } from "node:crypto";
import path from "node:path";
import { makePrivateDirectory } from "../../host/files.ts";
import { plainTar } from "../../image/archive/pack-directory.ts";
import { buildSnapshots } from "../../rootfs/snapshot/build-snapshots.ts";
import type { MountRecord } from "../../state/mount-record.ts";
import type { ProgressEvent } from "../api.ts";
import type { Context } from "../context.ts";

export interface CopyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}

/**
 * Copies the directories and files of the host that a VM is to have onto a disk of its own. Firectl's data
 * directory, which grows meanwhile, is left out of them.
 */
export async function copySnapshots(
  context: Context,
  target: { disk: string; mounts: readonly MountRecord[] },
  options: CopyOptions,
): Promise<void> {
  const snapshots = target.mounts.filter((mount) => mount.type === "snapshot");
  if (snapshots.length === 0) return;
  await makePrivateDirectory(path.dirname(target.disk));
  const packing = {
    env: context.env,
    signal: options.signal,
    exclude: context.directories.data,
  };
  await buildSnapshots({
    path: target.disk,
    uuid: randomUUID(),
    signal: options.signal,
    snapshots: snapshots.map(({ entry, source, isDirectory }) => {
      const onNotice = (message: string): void =>
        options.onProgress?.({ kind: "notice", message: `copying ${source}: ${message}` });
      return {
        name: entry,
        source,
        isDirectory,
        open: () =>
          isDirectory
            ? plainTar(source, { ...packing, onNotice })
            : plainTar(path.dirname(source), { ...packing, onNotice, name: path.basename(source) }),
      };
    }),
  });
}
