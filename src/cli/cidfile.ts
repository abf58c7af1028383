import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";

/** A file that will hold a VM's id: taken before the VM is made, so that the id is never without its file. */
export interface Cidfile extends Disposable {
  write(id: string): void;
}

/**
 * Creates `file`; dropping it before an id is written removes it.
 * @throws FirectlError INVALID_ARGUMENT when it exists: it may be another VM's.
 */
export function createCidfile(file: string): Cidfile {
  let descriptor: number;
  try {
    descriptor = openSync(file, "wx", 0o644);
  } catch (error) {
    if (errnoOf(error) === "EEXIST") {
      throw new FirectlError("INVALID_ARGUMENT", `--cidfile: ${file} exists already`, {
        hint: "make sure that no VM uses it, and remove it",
      });
    }
    throw new FirectlError("IO_FAILED", `--cidfile: cannot create ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  let written = false;
  return {
    write(id) {
      writeSync(descriptor, id);
      written = true;
    },
    [Symbol.dispose]() {
      closeSync(descriptor);
      if (!written) rmSync(file, { force: true });
    },
  };
}
