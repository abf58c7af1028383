import { FirectlError } from "../core/errors.ts";

/** Longest piece of an entry's name that a message quotes, in characters. */
const QUOTED_NAME = 200;

/**
 * The error for a layer that cannot be used, naming the layer and the entry.
 * @param entry The entry's name as bytes in a latin1 string, or undefined when no entry is at hand.
 */
export function layerError(layer: string, entry: string | undefined, problem: string): FirectlError {
  const where = entry === undefined ? "" : `, entry "${printableName(entry)}"`;
  return new FirectlError("LAYER_INVALID", `layer ${layer}${where}: ${problem}`);
}

/** A name given as bytes in a latin1 string, decoded and made safe to print: no control characters, bounded. */
export function printableName(name: string): string {
  const text = Buffer.from(name, "latin1").toString("utf8");
  const safe = text.replaceAll(/\p{Cc}|\p{Cf}/gu, "\u{fffd}");
  return safe.length > QUOTED_NAME ? `${safe.slice(0, QUOTED_NAME)}…` : safe;
}
