import { type FileHandle, open, stat } from "node:fs/promises";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { CleanupStack } from "../../host/cleanup.ts";
import { ioError } from "../../host/files.ts";
import type { ContentStore } from "../store/content-store.ts";
import { abortable } from "./abortable.ts";
import type { Archive } from "./archive.ts";
import { compressionOf, expand, sniff } from "./expand.ts";
import { indexArchive } from "./seekable.ts";
import { spoolArchive } from "./spool.ts";

const READ_BYTES = 256 * 1024;

/** An archive on disk, or one that comes as a stream; `label` names it in messages. */
export type ArchiveInput =
  | { readonly file: string }
  | { readonly chunks: AsyncIterable<Uint8Array>; readonly label: string };

export interface OpenArchiveOptions {
  readonly store: ContentStore;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  /** Called with the bytes read so far of a stream or a compressed file. */
  readonly onReceived: (received: number) => void;
}

/**
 * Opens an archive for `work`. A plain file is read in place; a compressed one, a pipe or a stream goes through
 * the store, which the caller holds.
 * @throws FirectlError FILE_NOT_FOUND, ARCHIVE_INVALID, TOOL_MISSING; what `work` throws.
 */
export async function withArchive<T>(
  input: ArchiveInput,
  options: OpenArchiveOptions,
  work: (archive: Archive) => Promise<T>,
): Promise<T> {
  if ("chunks" in input) {
    const chunks = abortable(input.chunks, options.signal);
    return await work(await spool(chunks, { ...options, label: input.label }));
  }
  await using resources = new CleanupStack();
  const handle = await openFile(input.file);
  resources.defer(() => handle.close());
  const label = input.file;
  const { signal } = options;
  if ((await handle.stat()).isFile()) {
    const head = Buffer.alloc(8);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    if (compressionOf(head.subarray(0, bytesRead)) === "none") {
      return await work(await indexArchive(handle, { label, signal }));
    }
  }
  return await work(await spool(streamOf(handle, { signal }), { ...options, label }));
}

/** What comes of a pipe, or of a file from `start`, in bytes; from where it stands when absent. The handle stays open. */
export function streamOf(
  handle: FileHandle,
  options: { signal: AbortSignal | undefined; start?: number },
): AsyncIterable<Uint8Array> {
  const { signal, start } = options;
  return handle.createReadStream({
    highWaterMark: READ_BYTES,
    autoClose: false,
    ...(start === undefined ? {} : { start }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/**
 * Opens a file or a pipe for reading.
 * @throws FirectlError FILE_NOT_FOUND; ARCHIVE_INVALID for a directory.
 */
export async function openFile(file: string): Promise<FileHandle> {
  try {
    if ((await stat(file)).isDirectory()) {
      throw new FirectlError("ARCHIVE_INVALID", `${file} is a directory, not an archive`, {
        hint: `for an OCI image layout write oci:${file}, for a root filesystem rootfs:${file}`,
      });
    }
    return await open(file, "r");
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENOTDIR")
      throw ioError(`cannot open ${file}`, error);
    throw new FirectlError("FILE_NOT_FOUND", `there is no ${file}`, { cause: error });
  }
}

async function spool(
  chunks: AsyncIterable<Uint8Array>,
  options: OpenArchiveOptions & { label: string },
): Promise<Archive> {
  const { label, env, signal, store, onReceived } = options;
  const sniffed = await sniff(chunks);
  return spoolArchive(
    store,
    expand(sniffed.chunks, { compression: sniffed.compression, label, env, signal }),
    {
      label,
      onReceived,
    },
  );
}
