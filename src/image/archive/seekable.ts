import type { FileHandle } from "node:fs/promises";
import { ioError } from "../../host/files.ts";
import { BLOCK } from "../../tar/header.ts";
import { TarReader } from "../../tar/reader.ts";
import { Archive } from "./archive.ts";

/** Headers of small members lie close together: one read brings many of them. */
const WINDOW_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;

/**
 * Reads the headers of a tar in a file and nothing else; what the members hold is read from where it lies. The
 * handle stays the caller's, who closes it after the archive's last use.
 * @throws FirectlError ARCHIVE_INVALID.
 */
export async function indexArchive(
  handle: FileHandle,
  options: { label: string; signal: AbortSignal | undefined },
): Promise<Archive> {
  const { label, signal } = options;
  const archive = new Archive(label);
  const { size } = await handle.stat();
  const window = new Window(handle, label);
  let position = 0;
  const reader = new TarReader(
    label,
    {
      entry(entry) {
        const start = position + BLOCK;
        archive.add(entry, {
          digest: undefined,
          read: ({ offset, signal }) =>
            readRange(handle, { start: start + offset, end: start + entry.size, label, signal }),
        });
        return false;
      },
      data() {},
      end() {},
    },
    (member, _, cause) => archive.unreadable(member, cause),
  );
  while (position < size) {
    signal?.throwIfAborted();
    const idle = Math.min(reader.idle, size - position);
    if (idle > 0) {
      reader.passOver(idle);
      position += idle;
      continue;
    }
    const block = await window.read(position);
    if (block.length === 0) break;
    // The entry, if this block completes one, finds its data behind it.
    reader.push(block);
    position += block.length;
  }
  reader.finish();
  return archive;
}

async function* readRange(
  handle: FileHandle,
  range: { start: number; end: number; label: string; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  for (let position = range.start; position < range.end; ) {
    range.signal?.throwIfAborted();
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, range.end - position));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position).catch((error: unknown) => {
      throw ioError(`cannot read ${range.label}`, error);
    });
    // Whoever takes the bytes counts them: a file cut meanwhile is noticed there.
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Blocks of a file, read many at a time. */
class Window {
  readonly #handle: FileHandle;
  readonly #label: string;
  readonly #buffer: Buffer = Buffer.allocUnsafe(WINDOW_BYTES);
  #start = 0;
  #length = 0;

  constructor(handle: FileHandle, label: string) {
    this.#handle = handle;
    this.#label = label;
  }

  /** The block at `position`; shorter, or empty, at the file's end. */
  async read(position: number): Promise<Buffer> {
    if (position < this.#start || position + BLOCK > this.#start + this.#length) {
      const { bytesRead } = await this.#handle
        .read(this.#buffer, 0, WINDOW_BYTES, position)
        .catch((error: unknown) => {
          throw ioError(`cannot read ${this.#label}`, error);
        });
      this.#start = position;
      this.#length = bytesRead;
    }
    const at = position - this.#start;
    return this.#buffer.subarray(at, Math.min(at + BLOCK, this.#length));
  }
}
