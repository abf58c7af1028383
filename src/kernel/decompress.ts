import { gunzipSync } from "node:zlib";
import { FirectlError } from "../core/errors.ts";
import { streamProgram } from "../host/process.ts";

/** Magic numbers of the formats that kernels and modules are compressed with, and the tool for each. */
const FORMATS: ReadonlyArray<{ magic: readonly number[]; name: string; argv?: readonly string[] }> = [
  { name: "gzip", magic: [0x1f, 0x8b] },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], argv: ["xz", "-dc"] },
  { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd], argv: ["zstd", "-dcq"] },
  { name: "lz4", magic: [0x02, 0x21, 0x4c, 0x18], argv: ["lz4", "-dcq"] },
  { name: "bzip2", magic: [0x42, 0x5a, 0x68], argv: ["bzip2", "-dc"] },
  { name: "lzma", magic: [0x5d, 0x00, 0x00], argv: ["xz", "--format=lzma", "-dc"] },
];

/** A kernel is some tens of megabytes, a module at most a few. */
const MAX_OUTPUT_BYTES = 512 * 1024 * 1024;

/** The compression of `bytes` by its magic number, or undefined. */
export function compressionOf(bytes: Buffer): string | undefined {
  return formatOf(bytes)?.name;
}

/**
 * The decompressed form of `bytes`; `bytes` itself when it is not compressed.
 * @throws FirectlError TOOL_MISSING, PROCESS_FAILED; INVALID_ARGUMENT for damaged data.
 */
export async function decompress(bytes: Buffer, what: string): Promise<Buffer> {
  const format = formatOf(bytes);
  if (format === undefined) return bytes;
  if (format.argv === undefined) {
    try {
      return gunzipSync(bytes, { maxOutputLength: MAX_OUTPUT_BYTES });
    } catch (error) {
      throw new FirectlError("INVALID_ARGUMENT", `${what} cannot be decompressed`, { cause: error });
    }
  }
  const [tool = "", ...args] = format.argv;
  const program = streamProgram(tool, args, { stdin: "pipe" });
  // A tool that has seen enough closes its end first: its status says whether that was right.
  program.stdin?.on("error", () => {});
  program.stdin?.end(bytes);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of program.stdout) {
    const piece = Buffer.from(chunk);
    size += piece.length;
    if (size > MAX_OUTPUT_BYTES)
      throw new FirectlError("INVALID_ARGUMENT", `${what} is larger than any kernel`);
    chunks.push(piece);
  }
  await program.finished;
  return Buffer.concat(chunks);
}

function formatOf(bytes: Buffer): (typeof FORMATS)[number] | undefined {
  return FORMATS.find(({ magic }) => magic.every((byte, index) => bytes[index] === byte));
}
