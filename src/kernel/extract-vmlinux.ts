import { FirectlError } from "../core/errors.ts";
import { compressionOf, decompress } from "./decompress.ts";

/** Offsets in the setup header of a bzImage, https://docs.kernel.org/arch/x86/boot.html */
const SETUP_SECTORS_OFFSET = 0x1f1;
const PROTOCOL_VERSION_OFFSET = 0x206;
const PAYLOAD_OFFSET_OFFSET = 0x248;
const PAYLOAD_LENGTH_OFFSET = 0x24c;
/** The first protocol that tells where the payload is. */
const PAYLOAD_PROTOCOL = 0x0208;

/**
 * The uncompressed ELF kernel inside a bzImage, for monitors that load nothing else.
 * @throws FirectlError INVALID_ARGUMENT when there is none, TOOL_MISSING when its decompressor is not
 *   installed.
 */
export async function extractVmlinux(bzImage: Buffer, file: string): Promise<Buffer> {
  const payload = payloadOf(bzImage);
  if (payload === undefined) throw new FirectlError("INVALID_ARGUMENT", `${file} has no kernel inside`);
  // The kernel's build appends the decompressed length, except to gzip, which has it itself.
  const compressed = compressionOf(payload) === "gzip" ? payload : payload.subarray(0, payload.length - 4);
  const vmlinux = await decompress(compressed, file);
  if (vmlinux.subarray(0, 4).toString("latin1") !== "\x7fELF") {
    throw new FirectlError("INVALID_ARGUMENT", `what ${file} has inside is not an ELF kernel`);
  }
  return vmlinux;
}

function payloadOf(bzImage: Buffer): Buffer | undefined {
  if (bzImage.length < PAYLOAD_LENGTH_OFFSET + 4) return undefined;
  if (bzImage.readUInt16LE(PROTOCOL_VERSION_OFFSET) < PAYLOAD_PROTOCOL) return undefined;
  // Zero stands for four, for history's sake; the boot sector comes before them.
  const setupSectors = bzImage.readUInt8(SETUP_SECTORS_OFFSET) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(PAYLOAD_OFFSET_OFFSET);
  const length = bzImage.readUInt32LE(PAYLOAD_LENGTH_OFFSET);
  return length < 8 || start + length > bzImage.length ? undefined : bzImage.subarray(start, start + length);
}
