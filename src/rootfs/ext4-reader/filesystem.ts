import { replayJournal } from "./journal.ts";
import { Volume } from "./volume.ts";

/**
 * Opens an ext4 filesystem for reading, without mounting it: one that firectl made, or one that a kernel has
 * written to, even if it was cut off. The disk is never written. `name` is what errors call it.
 * @throws FirectlError DISK_INVALID, UNSUPPORTED for features that are not known, FILE_NOT_FOUND,
 *   PERMISSION_DENIED, IO_FAILED.
 */
export function openFilesystem(path: string, name: string = path): Volume {
  const volume = Volume.open(path, name);
  try {
    replayJournal(volume);
    return volume;
  } catch (error) {
    volume[Symbol.dispose]();
    throw error;
  }
}
