import type { Stats } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import type { MountRecord } from "../../state/mount-record.ts";
import type { BindMountOptions } from "../api.ts";

/**
 * What becomes of a path of the host: shared live where it may be written or is asked to be live, else a copy of
 * it, made before the VM's first start and never written.
 * @param entry The copy's name on the disk of the VM's snapshots.
 * @throws FirectlError FILE_NOT_FOUND, UNSUPPORTED for what is neither a directory nor a file.
 */
export async function bindMount(
  option: BindMountOptions & { readonly destination: string },
  entry: string,
): Promise<MountRecord> {
  if (!path.isAbsolute(option.source)) {
    throw new FirectlError("INVALID_ARGUMENT", `cannot mount "${option.source}": the path must be absolute`);
  }
  const { source, stats } = await lookAt(option.source);
  if (!stats.isDirectory() && !stats.isFile()) {
    throw new FirectlError("UNSUPPORTED", `cannot mount ${source}: it is ${kindOf(stats)} of the host`, {
      hint: "a virtual machine has a kernel of its own: directories and regular files can be mounted",
    });
  }
  const readOnly = option.readOnly ?? false;
  const { destination } = option;
  if (option.live ?? !readOnly) {
    const { owner } = option;
    return { type: "share", source, destination, readOnly, ...(owner === undefined ? {} : { owner }) };
  }
  return {
    type: "snapshot",
    source,
    destination,
    entry,
    isDirectory: stats.isDirectory(),
  };
}

async function lookAt(given: string): Promise<{ source: string; stats: Stats }> {
  try {
    const source = await realpath(given);
    return { source, stats: await stat(source) };
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw ioError(`cannot mount ${given}`, error);
    throw new FirectlError("FILE_NOT_FOUND", `cannot mount ${given}: it does not exist on this host`, {
      hint: "for a volume of that name leave the slashes out: -v NAME:/path",
      cause: error,
    });
  }
}

function kindOf(stats: Stats): string {
  if (stats.isSocket()) return "a socket";
  if (stats.isFIFO()) return "a named pipe";
  return "a device";
}
