import path from "node:path";
import { FirectlError } from "../../core/errors.ts";

/**
 * A mount point as Docker takes it: absolute, without `.`, `..` and slashes at its end.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function cleanDestination(text: string): string {
  const fail = (reason: string, hint?: string): FirectlError =>
    new FirectlError(
      "INVALID_ARGUMENT",
      `cannot mount anything at "${text}": ${reason}`,
      hint === undefined ? {} : { hint },
    );
  if (!text.startsWith("/")) {
    throw fail("a mount path must be absolute", "it is a path in the VM, for example -v data:/srv/data");
  }
  if (text.includes("\0")) throw fail("it has a NUL in it");
  if (Buffer.byteLength(text) > 4095) throw fail("it is longer than 4095 bytes");
  const clean = path.posix.normalize(text).replace(/(.)\/$/, "$1");
  if (clean === "/") throw fail("the destination cannot be /");
  // runc refuses it too; the agent makes sure that no link of the image leads there.
  if (clean === "/proc" || clean.startsWith("/proc/")) throw fail("it is inside /proc");
  return clean;
}

/** Parents first, as Docker sorts them: a mount point may lie in what another one mounts. */
export function inMountOrder<T extends { readonly destination: string }>(mounts: readonly T[]): T[] {
  const depth = ({ destination }: T): number => destination.split("/").length;
  return mounts.toSorted((a, b) => depth(a) - depth(b));
}
