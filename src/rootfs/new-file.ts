import { closeSync, openSync, rmSync } from "node:fs";
import { ioError } from "../host/files.ts";

/**
 * Makes the file `path`, readable by its owner only, and has `write` fill it; nothing of it stays when that fails.
 * @throws FirectlError IO_FAILED when there is such a file already; what `write` throws.
 */
export async function writeNewFile(path: string, write: (fd: number) => void | Promise<void>): Promise<void> {
  let fd: number;
  try {
    fd = openSync(path, "wx+", 0o600);
  } catch (error) {
    throw ioError(`cannot create ${path}`, error);
  }
  let done = false;
  try {
    await write(fd);
    done = true;
  } finally {
    closeSync(fd);
    if (!done) rmSync(path, { force: true });
  }
}
