import { FirectlError, messageOf } from "../../core/errors.ts";
import { findExecutable } from "../../host/files.ts";
import { unpackHere } from "../unpack/here.ts";
import { throughProgram } from "./by-program.ts";

/** How a whole archive is compressed. */
export type ArchiveCompression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

/** As many first bytes are enough to tell. */
const MAGIC_BYTES = 6;

const MAGICS: readonly (readonly [ArchiveCompression, Buffer])[] = [
  ["gzip", Buffer.from([0x1f, 0x8b, 0x08])],
  ["zstd", Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
  ["xz", Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ["bzip2", Buffer.from("BZh")],
];

/** How a file that begins with `head` is compressed. */
export function compressionOf(head: Uint8Array): ArchiveCompression {
  const found = MAGICS.find(([, magic]) => magic.equals(head.subarray(0, magic.length)));
  return found?.[0] ?? "none";
}

/** How what comes is compressed, with all of it again. */
export async function sniff(
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ compression: ArchiveCompression; chunks: AsyncIterable<Uint8Array> }> {
  const iterator = chunks[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
    if (head.length >= MAGIC_BYTES) break;
  }
  return { compression: compressionOf(head), chunks: withHead(head, iterator) };
}

async function* withHead(head: Uint8Array, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

export interface ExpandOptions {
  readonly compression: ArchiveCompression;
  /** Names the archive in errors. */
  readonly label: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
}

/**
 * The uncompressed bytes of an archive; xz and bzip2 are unpacked by the programs of these names.
 * @throws FirectlError ARCHIVE_INVALID when it is damaged, TOOL_MISSING.
 */
export async function* expand(
  chunks: AsyncIterable<Uint8Array>,
  options: ExpandOptions,
): AsyncGenerator<Uint8Array> {
  const { label, signal } = options;
  try {
    yield* expanded(chunks, options);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof FirectlError && error.code !== "PROCESS_FAILED") throw error;
    throw new FirectlError("ARCHIVE_INVALID", `archive ${label} cannot be unpacked: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function* expanded(
  chunks: AsyncIterable<Uint8Array>,
  options: ExpandOptions,
): AsyncGenerator<Uint8Array> {
  const { compression, signal } = options;
  switch (compression) {
    case "none":
      yield* chunks;
      break;
    case "gzip":
    case "zstd":
      yield* unpackHere(chunks, compression);
      break;
    case "xz":
    case "bzip2":
      yield* throughProgram(chunks, { program: await programFor(compression, options), signal });
  }
}

async function programFor(
  compression: Extract<ArchiveCompression, "xz" | "bzip2">,
  options: ExpandOptions,
): Promise<readonly string[]> {
  const file = await findExecutable(compression, options.env["PATH"] ?? "");
  if (file !== undefined) return [file, "-dc"];
  throw new FirectlError(
    "TOOL_MISSING",
    `${options.label} is compressed by ${compression}, which is not installed`,
    { hint: `install ${compression === "xz" ? "xz-utils" : compression}, or unpack it elsewhere first` },
  );
}
