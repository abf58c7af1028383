import { randomUUID } from "node:crypto";
import { closeSync } from "node:fs";
import path from "node:path";
import { makePrivateDirectory } from "../../host/files.ts";
import { openWithoutLinks } from "../../host/open-without-links.ts";
import { type PackOptions, plainTar } from "../../image/archive/pack-directory.ts";
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
 * @throws FirectlError IO_FAILED when there is a link or something else in their place, FILE_NOT_FOUND, and what
 *   {@link buildSnapshots} throws.
 */
export async function copySnapshots(
  context: Pick<Context, "directories" | "env">,
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
            ? tarWithoutLinks(source, { ...packing, onNotice })
            : tarWithoutLinks(path.dirname(source), { ...packing, onNotice, name: path.basename(source) }),
      };
    }),
  });
}

/** The tar of a directory, or of a file in it, that was found before: no link leads elsewhere meanwhile. */
async function* tarWithoutLinks(
  directory: string,
  options: PackOptions & { readonly name?: string },
): AsyncGenerator<Uint8Array> {
  const descriptor = openWithoutLinks(directory, `cannot copy ${directory}`);
  try {
    yield* plainTar(directory, { ...options, descriptor });
  } finally {
    closeSync(descriptor);
  }
}
