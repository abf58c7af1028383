import { closeSync, constants, fstatSync, type Stats } from "node:fs";
import { access } from "node:fs/promises";
import { FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { openWithoutLinks } from "../../host/open-without-links.ts";
import type { SideProcess } from "../../host/supervise.ts";
import type { MountRecord } from "../../state/mount-record.ts";
import type { ShareRecord } from "../../state/share-record.ts";
import type { Context } from "../context.ts";
import { requireOwnProgram } from "../own-program.ts";
import type { VmPaths } from "../vm-paths.ts";

/** Ports of the host on which shares are served; the guest's agent connects to them and nobody else can. */
const FIRST_PORT = 1100;

/** The shares among a VM's mounts, in their order. */
export function sharesIn(mounts: readonly MountRecord[]): ShareRecord[] {
  return mounts.filter((mount) => mount.type === "share");
}

/** The port of a VM's share, counted from 0. */
export function sharePort(index: number): number {
  return FIRST_PORT + index;
}

/**
 * The servers of a VM's shares, one process each, on the sockets to which the VMM connects the guest.
 * @throws FirectlError FILE_NOT_FOUND when a directory has gone or the server is missing, IO_FAILED when there is a
 *   link in its place, PERMISSION_DENIED.
 */
export async function shareProcesses(
  context: Pick<Context, "shareServerPath">,
  shares: readonly ShareRecord[],
  paths: Pick<VmPaths, "vsockSocket">,
): Promise<SideProcess[]> {
  if (shares.length === 0) return [];
  await requireOwnProgram(context.shareServerPath, "the server of shared directories");
  await Promise.all(shares.map(checkSource));
  return shares.map((share, index) => {
    // Where Firecracker and vhost-device-vsock look for who listens on a port of the host.
    // https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md
    const socketPath = `${paths.vsockSocket}_${sharePort(index)}`;
    const { owner } = share;
    return {
      name: `share${index}`,
      socketPath,
      argv: [
        ...[context.shareServerPath, "--socket", socketPath, "--path", share.source],
        ...(share.readOnly ? ["--read-only"] : []),
        ...(owner === undefined ? [] : ["--owner", `${owner.uid}:${owner.gid}`]),
      ],
    };
  });
}

/** What `start` finds may be another than what `run` found. The server looks again: this is for the message. */
async function checkSource({ source }: ShareRecord): Promise<void> {
  const cannot = `cannot share ${source}`;
  const stats = look(source, cannot);
  if (!stats.isDirectory() && !stats.isFile()) {
    throw new FirectlError("UNSUPPORTED", `${cannot}: it is neither a directory nor a file`);
  }
  try {
    await access(source, stats.isDirectory() ? constants.R_OK | constants.X_OK : constants.R_OK);
  } catch (error) {
    throw ioError(cannot, error);
  }
}

function look(source: string, act: string): Stats {
  const fd = openWithoutLinks(source, act);
  try {
    return fstatSync(fd);
  } finally {
    closeSync(fd);
  }
}
