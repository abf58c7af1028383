import { FirectlError } from "../../core/errors.ts";

/**
 * The 16 bytes of a UUID.
 * @throws FirectlError INVALID_ARGUMENT when `text` is not one.
 */
export function parseUuid(text: string): Buffer {
  if (!/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(text)) {
    throw new FirectlError("INVALID_ARGUMENT", `"${text}" is not a UUID`);
  }
  return Buffer.from(text.replaceAll("-", ""), "hex");
}

/** The UUID as four little-endian words, which is how the seed of directory hashes is read. */
export function uuidWords(uuid: Buffer): Uint32Array {
  return Uint32Array.from({ length: 4 }, (_, i) => uuid.readUInt32LE(4 * i));
}
