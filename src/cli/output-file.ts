import { FirectlError } from "../core/errors.ts";
import { writeChunksAtomic } from "../host/files.ts";
import type { Flags } from "./command.ts";
import type { CliIo } from "./io.ts";
import { parseText } from "./values.ts";

/** Where a command puts an archive. */
export const OUTPUT_FLAG = {
  output: {
    kind: "value",
    short: "o",
    placeholder: "FILE",
    parse: parseText,
    summary: "Write to FILE, whole or not at all, instead of stdout",
  },
} as const satisfies Flags;

/**
 * What `-o` stands for: the path of a file, or, for `-` and nothing, a function that writes to stdout.
 * @throws FirectlError INVALID_ARGUMENT when that is a terminal.
 */
export function outputFor(
  io: CliIo,
  file: string | undefined,
): string | ((chunk: Uint8Array) => Promise<void>) {
  if (file !== undefined && file !== "-") return file;
  if (io.stdout.isTerminal) {
    throw new FirectlError("INVALID_ARGUMENT", "stdout is a terminal, and an archive is no text", {
      hint: "name a file with -o, or redirect stdout",
    });
  }
  return (chunk) => io.stdout.stream(chunk);
}

/**
 * Writes an archive to where `-o` says.
 * @throws FirectlError as {@link outputFor} and `writeChunksAtomic` do.
 */
export async function writeOutput(
  io: CliIo,
  chunks: AsyncIterable<Uint8Array>,
  file: string | undefined,
): Promise<void> {
  const output = outputFor(io, file);
  if (typeof output === "string") await writeChunksAtomic(output, chunks);
  else for await (const chunk of chunks) await output(chunk);
}
