import { FirectlError } from "../../core/errors.ts";
import { GIB, MIB } from "../../core/units.ts";

/** The size of a volume unless another is asked for; its file takes only what is written. */
export const DEFAULT_VOLUME_BYTES: number = 10 * GIB;
/** Smaller ones have no room for a journal. */
const MIN_VOLUME_BYTES: number = 16 * MIB;
const MAX_VOLUME_BYTES: number = 16 * 1024 * 1024 * MIB - 4096;

/** @throws FirectlError INVALID_ARGUMENT naming the bounds. */
export function checkVolumeSize(bytes: number): void {
  if (Number.isSafeInteger(bytes) && bytes >= MIN_VOLUME_BYTES && bytes <= MAX_VOLUME_BYTES) return;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `a volume of ${bytes} bytes: from ${MIN_VOLUME_BYTES} (16m) to ${MAX_VOLUME_BYTES} are possible`,
  );
}
