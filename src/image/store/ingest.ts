import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { ioError, syncDirectory } from "../../host/files.ts";
import { type BlobDescriptor, type ContentStore, digestOf, sha256 } from "./content-store.ts";
import type { GrowingBlob } from "./growing-blob.ts";

/** Chunks are gathered to about this many bytes before they are written: each write is a thread-pool job. */
const WRITE_BATCH_BYTES = 512 * 1024;
const READ_BYTES = 1024 * 1024;

export interface IngestOptions {
  /** The blob's bytes from `offset` on. */
  readonly read: (offset: number) => AsyncIterable<Uint8Array>;
  /** Tries to put the whole blob at `file` in a cheaper way than `read`; returns whether it did. */
  readonly clone?: ((file: string) => Promise<boolean>) | undefined;
  /** Called with the bytes that are here, a resumed part included. */
  readonly onReceived?: ((received: number) => void) | undefined;
  /** Told of what can be read already. */
  readonly growing?: GrowingBlob | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Brings a blob into the store unless it is there: one process fetches it, the others wait for that. What an
 * interrupted attempt left is continued. The caller holds the store.
 * @returns Whether it came in now.
 * @throws FirectlError DIGEST_MISMATCH for wrong, missing or trailing bytes, NO_SPACE; what `read` throws.
 */
export async function ingestBlob(
  store: ContentStore,
  blob: BlobDescriptor,
  options: IngestOptions,
): Promise<boolean> {
  const cameIn = !(await store.hasBlob(blob)) && (await fetchOnce(store, blob, options));
  options.growing?.arrive();
  return cameIn;
}

function fetchOnce(store: ContentStore, blob: BlobDescriptor, options: IngestOptions): Promise<boolean> {
  return store.exclusively(blob.digest, options.signal, async () => {
    if (await store.hasBlob(blob)) return false;
    const resumed = await receive(store, blob, options);
    if (resumed === "damaged") {
      // What lay here from an earlier attempt was not the beginning of this blob: once more, from nothing.
      await rm(store.partialPath(blob.digest), { force: true });
      await receive(store, blob, options);
    }
    return true;
  });
}

async function receive(
  store: ContentStore,
  blob: BlobDescriptor,
  options: IngestOptions,
): Promise<"done" | "damaged"> {
  const partial = store.partialPath(blob.digest);
  if (options.clone !== undefined) await options.clone(partial);
  await using writer = await BlobWriter.open(partial, blob.size);
  const resumedAt = writer.size;
  // What an earlier attempt left may turn out to be wrong: it is not to be read before it is verified.
  const { growing } = options;
  if (resumedAt === 0 && growing !== undefined) writer.onWritten = (size) => growing.grow(partial, size);
  try {
    options.onReceived?.(resumedAt);
    if (resumedAt < blob.size) {
      for await (const chunk of options.read(resumedAt)) {
        options.signal?.throwIfAborted();
        if (writer.size + chunk.byteLength > blob.size) throw tooLong(blob);
        await writer.write(chunk);
        options.onReceived?.(writer.size);
      }
    }
    const actual = await writer.finish();
    if (writer.size !== blob.size) throw truncated(blob, writer.size);
    if (actual !== blob.digest) {
      if (resumedAt > 0) return "damaged";
      throw new FirectlError(
        "DIGEST_MISMATCH",
        `blob ${blob.digest} (${blob.size} bytes) has the digest ${actual}`,
      );
    }
    await publish(store, partial, blob.digest);
    return "done";
  } catch (error) {
    // An interrupted download is kept to be resumed; what is wrong, or in the way of a full disk, is not.
    if (error instanceof FirectlError && (error.code === "DIGEST_MISMATCH" || error.code === "NO_SPACE")) {
      await rm(partial, { force: true });
    }
    throw error;
  }
}

/**
 * Brings in a stream whose digest is not known beforehand. The caller holds the store.
 * @throws FirectlError NO_SPACE; what `chunks` throws.
 */
export async function ingestStream(
  store: ContentStore,
  chunks: AsyncIterable<Uint8Array>,
): Promise<BlobDescriptor> {
  const temporary = store.temporaryPath();
  try {
    await using writer = await BlobWriter.open(temporary, Number.MAX_SAFE_INTEGER);
    for await (const chunk of chunks) await writer.write(chunk);
    const digest = await writer.finish();
    await publish(store, temporary, digest);
    return { digest, size: writer.size };
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Brings in a manifest or configuration that has been checked. The caller holds the store. */
export async function ingestBytes(store: ContentStore, bytes: Uint8Array): Promise<BlobDescriptor> {
  const blob = { digest: sha256(bytes), size: bytes.byteLength };
  if (await store.hasBlob(blob)) return blob;
  return ingestStream(
    store,
    (async function* () {
      yield bytes;
    })(),
  );
}

async function publish(store: ContentStore, file: string, digest: Digest): Promise<void> {
  const target = store.blobPath(digest);
  try {
    await rename(file, target);
    await syncDirectory(path.dirname(target));
  } catch (error) {
    throw ioError(`cannot put blob ${digest} into the store`, error);
  }
}

/** Appends to a file in large writes, hashing on the way. */
class BlobWriter implements AsyncDisposable {
  readonly #file: string;
  readonly #handle: FileHandle;
  readonly #hash: Hash = createHash("sha256");
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** The write under way: the next batch is gathered and hashed meanwhile. */
  #writing: Promise<void> = Promise.resolve();
  #written = 0;
  size = 0;
  /** Called with how much of the file stands. */
  onWritten: (size: number) => void = () => {};

  private constructor(file: string, handle: FileHandle) {
    this.#file = file;
    this.#handle = handle;
  }

  /** Opens `file`, continuing what is in it unless that is more than `maxBytes`. */
  static async open(file: string, maxBytes: number): Promise<BlobWriter> {
    const handle = await open(file, constants.O_RDWR | constants.O_CREAT, 0o600).catch((error: unknown) => {
      throw ioError(`cannot create ${file}`, error);
    });
    const writer = new BlobWriter(file, handle);
    try {
      const { size } = await handle.stat();
      if (size > maxBytes) await handle.truncate(0);
      else await writer.#hashExisting(size);
    } catch (error) {
      await handle.close();
      throw ioError(`cannot continue ${file}`, error);
    }
    return writer;
  }

  async #hashExisting(size: number): Promise<void> {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, size));
    while (this.size < size) {
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.size);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.size += bytesRead;
    }
    this.#written = this.size;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.byteLength;
    this.size += chunk.byteLength;
    if (this.#pendingBytes >= WRITE_BATCH_BYTES) await this.#flush();
  }

  /** Waits for the write before, and starts the next one. */
  async #flush(): Promise<void> {
    await this.#writing;
    const [batch, bytes, position] = [this.#pending, this.#pendingBytes, this.#written];
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#written += bytes;
    this.#writing = writeAll(this.#handle, batch, position).then(
      () => this.onWritten(position + bytes),
      (error: unknown) => {
        throw ioError(`cannot write ${this.#file}`, error);
      },
    );
    // Reported by the next flush or finish; until then it must not count as unhandled.
    this.#writing.catch(() => {});
  }

  /** Makes all of it durable and returns its digest. */
  async finish(): Promise<Digest> {
    await this.#flush();
    await this.#writing;
    await this.#handle.sync().catch((error: unknown) => {
      throw ioError(`cannot write ${this.#file}`, error);
    });
    return digestOf(this.#hash.digest("hex"));
  }

  /** What was received before a failure is written, so that the next attempt can go on from there. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#flush();
      await this.#writing;
    } catch {
      // The failure that matters is being thrown already, and the file is cut to what was written.
    } finally {
      await this.#handle.close();
    }
  }
}

async function writeAll(handle: FileHandle, chunks: readonly Uint8Array[], position: number): Promise<void> {
  let offset = position;
  let rest = chunks.filter((chunk) => chunk.byteLength > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest, offset);
    offset += bytesWritten;
    // A short write leaves the tail of one chunk and those after it.
    while (rest[0] !== undefined && bytesWritten >= rest[0].byteLength) {
      bytesWritten -= rest[0].byteLength;
      rest = rest.slice(1);
    }
    if (rest[0] !== undefined && bytesWritten > 0) rest = [rest[0].subarray(bytesWritten), ...rest.slice(1)];
  }
}

function tooLong(blob: BlobDescriptor): FirectlError {
  return new FirectlError(
    "DIGEST_MISMATCH",
    `blob ${blob.digest} is longer than the ${blob.size} bytes announced`,
  );
}

function truncated(blob: BlobDescriptor, size: number): FirectlError {
  return new FirectlError("DIGEST_MISMATCH", `blob ${blob.digest} ends after ${size} of ${blob.size} bytes`);
}
