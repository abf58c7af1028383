import { randomBytes } from "node:crypto";
import { FirectlError } from "../../core/errors.ts";

/** Docker's rule: https://github.com/moby/moby/blob/master/volume/local/local.go */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}$/;

/** Whether `text` can name a volume. */
export function isVolumeName(text: string): boolean {
  return NAME.test(text);
}

/** @throws FirectlError INVALID_ARGUMENT. */
export function checkVolumeName(name: string): void {
  if (isVolumeName(name)) return;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `"${name}" is no name for a volume: it has 2 to 255 of the characters [a-zA-Z0-9_.-], the first a letter or digit`,
    { hint: "a directory of the host is given by an absolute path, or one that begins with ./" },
  );
}

/** A name for a volume that got none: 64 hexadecimal digits, as Docker's. */
export function anonymousVolumeName(): string {
  return randomBytes(32).toString("hex");
}
