import { createHash, randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { type Digest, digestHex } from "../../core/brands.ts";
import { errnoOf, FirectlError } from "../../core/errors.ts";
import { tryFileLock, withFileLock } from "../../host/file-lock.ts";
import {
  exists,
  ioError,
  makePrivateDirectory,
  namesIn,
  readTextIfPresent,
  writeFileAtomic,
} from "../../host/files.ts";
import { isAlive, ownIdentity, type ProcessIdentity } from "../../host/process-identity.ts";
import { type IndexChange, type IndexEntry, readIndex, rewriteIndex } from "./index-file.ts";

/** What names a blob: its digest, and its size in bytes. */
export interface BlobDescriptor {
  readonly digest: Digest;
  readonly size: number;
}

/** What to do about a blob that is lost or damaged. */
export const FETCH_AGAIN =
  "fetch the image again, by firectl pull or --pull always, or load its archive again";

/** A download of another process may take long; it has deadlines of its own on every wait. */
const PULL_LOCK_TIMEOUT_MS = 3_600_000;
const INDEX_LOCK_TIMEOUT_MS = 30_000;
const READ_BYTES = 1024 * 1024;

/**
 * The images on this machine, an OCI image layout that skopeo and umoci can read:
 *
 *     oci-layout, index.json, blobs/sha256/<hex>     the layout; index.json changes only under its lock
 *     ingest/<hex>.partial                           blobs on their way in, resumed when interrupted
 *     ingest/<owner>.<uuid>.tmp, <owner>.<name>.container   a process's own: a stream, a container of Docker's
 *     images/<manifest hex>.json                     what `find` answers, derived from manifest and config
 *     locks/                                         store (shared: someone uses it; exclusive: gc), index, one a blob, one a reference
 *
 * A blob's digest is verified when it comes in and its size whenever it is opened; a layer's diff_id is
 * verified each time it is read. What proves damaged goes, to be fetched again. https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export class ContentStore {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  /** Makes the directories of an empty store. */
  async prepare(): Promise<void> {
    await makePrivateDirectory(this.root);
    for (const name of ["blobs/sha256", "ingest", "images", "locks"]) {
      await mkdir(path.join(this.root, name), { recursive: true, mode: 0o700 }).catch((error: unknown) => {
        throw ioError(`cannot create directory ${path.join(this.root, name)}`, error);
      });
    }
    const marker = path.join(this.root, "oci-layout");
    if (!(await exists(marker))) {
      await writeFileAtomic(marker, '{"imageLayoutVersion":"1.0.0"}\n', { mode: 0o644 });
    }
    if (!(await exists(path.join(this.root, "index.json")))) {
      await this.updateIndex((entries) => entries);
    }
  }

  blobPath(digest: Digest): string {
    return path.join(this.root, "blobs", "sha256", digestHex(digest));
  }

  /** Where a blob grows while it comes in. */
  partialPath(digest: Digest): string {
    return path.join(this.root, "ingest", `${digestHex(digest)}.partial`);
  }

  /** A file for a blob whose digest is not known yet, marked as this process's own. */
  temporaryPath(): string {
    return path.join(this.root, "ingest", `${formatOwner(ownIdentity())}.${randomUUID()}.tmp`);
  }

  /** Where it is noted that this process's temporary container exists in Docker. */
  containerNotePath(container: string): string {
    return path.join(this.root, "ingest", `${formatOwner(ownIdentity())}.${container}.container`);
  }

  /** Whether the blob is here with the size that is asked for. */
  async hasBlob(blob: BlobDescriptor): Promise<boolean> {
    try {
      const stats = await stat(this.blobPath(blob.digest));
      return stats.isFile() && stats.size === blob.size;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return false;
      throw ioError(`cannot look at blob ${blob.digest}`, error);
    }
  }

  /**
   * The size of a blob that is here, in bytes.
   * @throws FirectlError LAYER_INVALID when it is not.
   */
  async blobSize(digest: Digest): Promise<number> {
    try {
      return (await stat(this.blobPath(digest))).size;
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at blob ${digest}`, error);
      throw damaged(`blob ${digest} is missing from the store at ${this.root}`);
    }
  }

  /**
   * Opens a blob for reading.
   * @throws FirectlError LAYER_INVALID when it is gone or has another size than it should.
   */
  async openBlob(blob: BlobDescriptor): Promise<FileHandle> {
    const file = this.blobPath(blob.digest);
    let handle: FileHandle;
    try {
      handle = await open(file, "r");
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot open ${file}`, error);
      throw damaged(`blob ${blob.digest} is missing from the store at ${this.root}`);
    }
    const { size } = await handle.stat();
    if (size === blob.size) return handle;
    await handle.close();
    throw damaged(`blob ${blob.digest} has ${size} bytes in the store, expected ${blob.size}`);
  }

  /**
   * The bytes of a small blob, verified. One that is damaged goes, so that the next pull brings it again.
   * @throws FirectlError LAYER_INVALID, DIGEST_MISMATCH.
   */
  async readBlob(blob: BlobDescriptor): Promise<Uint8Array> {
    const handle = await this.openBlob(blob);
    try {
      const bytes = await handle.readFile();
      const actual = sha256(bytes);
      if (actual === blob.digest) return bytes;
      await this.#discard(blob.digest, handle);
      throw wrongDigest(`blob ${blob.digest}`, actual);
    } finally {
      await handle.close();
    }
  }

  /** Whether a small blob is here with the bytes that it should have; one that is damaged goes. */
  async hasVerifiedBlob(blob: BlobDescriptor): Promise<boolean> {
    try {
      await this.readBlob(blob);
      return true;
    } catch (error) {
      const isLost = error instanceof FirectlError && /^(DIGEST_MISMATCH|LAYER_INVALID)$/.test(error.code);
      if (isLost) return false;
      throw error;
    }
  }

  /**
   * Reads a blob that is suspect. One that is damaged goes, so that the next pull brings it again; one that is
   * gone already, or still to come, is nobody's fault.
   * @throws FirectlError DIGEST_MISMATCH when it is damaged; the signal's reason.
   */
  async verifyBlob(digest: Digest, signal?: AbortSignal): Promise<void> {
    const file = this.blobPath(digest);
    let handle: FileHandle | undefined;
    try {
      handle = await open(file, "r");
      const hash = createHash("sha256");
      const chunks: AsyncIterable<Uint8Array> = handle.createReadStream({
        autoClose: false,
        highWaterMark: READ_BYTES,
      });
      for await (const chunk of chunks) {
        signal?.throwIfAborted();
        hash.update(chunk);
      }
      const actual = digestOf(hash.digest("hex"));
      if (actual === digest) return;
      await this.#discard(digest, handle);
      throw wrongDigest(`layer ${digest}`, actual);
    } catch (error) {
      signal?.throwIfAborted();
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot read ${file}`, error);
    } finally {
      await handle?.close();
    }
  }

  /**
   * Takes away the blob that `handle` has read, and puts back a good one that has come to its place meanwhile.
   * Whoever reads it goes on reading. No lock is taken: the caller may have the store alone, or not hold it at all.
   */
  async #discard(digest: Digest, handle: FileHandle): Promise<void> {
    const [file, aside] = [this.blobPath(digest), this.temporaryPath()];
    try {
      await rename(file, aside);
      const [read, taken] = await Promise.all([handle.stat({ bigint: true }), stat(aside, { bigint: true })]);
      if (read.ino === taken.ino && read.dev === taken.dev) await rm(aside);
      else await rename(aside, file);
    } catch {
      // Gone already, or not ours to remove: that it is damaged is what the user must hear.
    }
  }

  /** What processes that were killed have left. */
  async leftovers(): Promise<readonly Leftover[]> {
    const directory = path.join(this.root, "ingest");
    const names = await namesIn(directory);
    return names.flatMap((name) => asLeftover(directory, name) ?? []);
  }

  index(): Promise<readonly IndexEntry[]> {
    return readIndex(this.root);
  }

  /** Changes `index.json` under its lock. */
  updateIndex(change: IndexChange): Promise<void> {
    return this.withIndex(() => rewriteIndex(this.root, change));
  }

  /** Runs `work` while nobody writes `index.json`. */
  withIndex<T>(work: () => Promise<T>): Promise<T> {
    return withFileLock(this.#lockPath("index"), { timeoutMs: INDEX_LOCK_TIMEOUT_MS }, work);
  }

  /** The derived description of a manifest, or undefined when none was written. */
  async readDescription(manifest: Digest): Promise<string | undefined> {
    return readTextIfPresent(this.#descriptionPath(manifest));
  }

  async writeDescription(manifest: Digest, text: string): Promise<void> {
    await writeFileAtomic(this.#descriptionPath(manifest), text);
  }

  /** Removes all that {@link writeDescription} wrote; it is derived again when it is missed. */
  async removeDescriptions(): Promise<void> {
    const directory = path.join(this.root, "images");
    for (const name of await readdir(directory)) await rm(path.join(directory, name), { force: true });
  }

  /** Keeps everything in the store while `work` runs: nothing is collected. May be nested. */
  hold<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const options = { timeoutMs: PULL_LOCK_TIMEOUT_MS, shared: true, signal };
    return withFileLock(this.#lockPath("store"), options, work);
  }

  /**
   * Runs `work` while nobody uses the store.
   * @throws FirectlError LOCK_TIMEOUT when someone does for longer than `timeoutMs`.
   */
  alone<T>(timeoutMs: number, work: () => Promise<T>): Promise<T> {
    return withFileLock(this.#lockPath("store"), { timeoutMs }, work);
  }

  /** One at a time fetches that blob or resolves that reference. The caller holds the store. */
  exclusively<T>(what: Digest | string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const options = { timeoutMs: PULL_LOCK_TIMEOUT_MS, signal };
    return withFileLock(this.#exclusiveLockPath(what), options, work);
  }

  /** Whether a living process works on that file of `ingest`. */
  async isComing(file: string): Promise<boolean> {
    const name = path.basename(file);
    const hex = /^([0-9a-f]{64})\.partial$/.exec(name)?.[1];
    if (hex === undefined) return asLeftover(path.dirname(file), name) === undefined;
    const free = await tryFileLock(this.#exclusiveLockPath(digestOf(hex)), async () => true);
    return free === undefined;
  }

  #exclusiveLockPath(what: Digest | string): string {
    return this.#lockPath(createHash("sha256").update(what).digest("hex"));
  }

  #lockPath(name: string): string {
    return path.join(this.root, "locks", `${name}.lock`);
  }

  #descriptionPath(manifest: Digest): string {
    return path.join(this.root, "images", `${digestHex(manifest)}.json`);
  }
}

/** The digest of `bytes`. */
export function sha256(bytes: Uint8Array): Digest {
  return digestOf(createHash("sha256").update(bytes).digest("hex"));
}

/** The digest with these 64 hexadecimal digits, as node:crypto gives them. */
export function digestOf(hex: string): Digest {
  // Hexadecimal output of SHA-256 has the form that the brand stands for.
  return `sha256:${hex}` as Digest;
}

/** What a killed process left in `ingest`: its temporary files, and notes of its containers. */
export interface Leftover {
  readonly file: string;
  /** The container that the file is a note of. */
  readonly container: string | undefined;
}

/** Reads one name in `ingest`; undefined for what is no process's own, or whose process lives. */
function asLeftover(directory: string, name: string): Leftover | undefined {
  const [, pid, startTime, rest, kind] = /^(\d+)-(\d+)\.(.+)\.(tmp|container)$/.exec(name) ?? [];
  if (rest === undefined || isAlive({ pid: Number(pid), startTime: Number(startTime) })) return undefined;
  return { file: path.join(directory, name), container: kind === "container" ? rest : undefined };
}

function formatOwner(owner: ProcessIdentity): string {
  return `${owner.pid}-${owner.startTime}`;
}

function wrongDigest(what: string, actual: Digest): FirectlError {
  return new FirectlError("DIGEST_MISMATCH", `${what} is damaged in the store: it has the digest ${actual}`, {
    hint: FETCH_AGAIN,
  });
}

function damaged(message: string): FirectlError {
  return new FirectlError("LAYER_INVALID", message, { hint: FETCH_AGAIN });
}
