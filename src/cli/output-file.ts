import { open, realpath, rename, rm, stat } from "node:fs/promises";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { cannotWrite, ioError } from "../host/files.ts";
import type { CliIo } from "./io.ts";

export interface OutputOptions {
  /** Where to write; `-` and undefined are stdout. */
  readonly file: string | undefined;
  /** What is written, for messages: "an archive". */
  readonly what: string;
}

/**
 * Writes a long result to stdout, or to a file of its owner's alone that is there in whole or not at all.
 * @throws FirectlError INVALID_ARGUMENT when stdout is a terminal or the file a directory.
 */
export async function writeOutput(
  io: CliIo,
  chunks: AsyncIterable<Uint8Array>,
  options: OutputOptions,
): Promise<void> {
  const { file } = options;
  if (file === undefined || file === "-") {
    refuseTerminal(io, options.what);
    for await (const chunk of chunks) await io.stdout.stream(chunk);
  } else if (await isPlain(file)) {
    // What a link leads to is replaced, not the link.
    await writeWhole(await realpath(file).catch(() => file), chunks);
  } else {
    await writeInto(file, chunks, { flags: "w", shown: file });
  }
}

function refuseTerminal(io: CliIo, what: string): void {
  if (!io.stdout.isTerminal) return;
  throw new FirectlError("INVALID_ARGUMENT", `stdout is a terminal, and ${what} is no text`, {
    hint: "name a file with -o, or redirect stdout",
  });
}

/** Whether `file` is a regular file or will be one; a device or pipe can only be written into. */
async function isPlain(file: string): Promise<boolean> {
  try {
    const info = await stat(file);
    if (!info.isDirectory()) return info.isFile();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
    throw ioError(`cannot write ${file}`, error);
  }
  throw new FirectlError("INVALID_ARGUMENT", `cannot write ${file}: it is a directory`);
}

async function writeWhole(file: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${file}.${crypto.randomUUID()}.tmp`;
  try {
    await writeInto(temporary, chunks, { flags: "wx", shown: file });
    await rename(temporary, file).catch((error: unknown) => {
      throw cannotWrite(file, error);
    });
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeInto(
  file: string,
  chunks: AsyncIterable<Uint8Array>,
  { flags, shown }: { flags: "w" | "wx"; shown: string },
): Promise<void> {
  const failed = (error: unknown) => {
    throw cannotWrite(shown, error);
  };
  await using handle = await open(file, flags, 0o600).catch(failed);
  for await (const chunk of chunks) {
    for (let done = 0; done < chunk.length; ) {
      done += (await handle.write(chunk, done).catch(failed)).bytesWritten;
    }
  }
}
