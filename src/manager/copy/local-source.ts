import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
} from "node:fs";
import { ioError } from "../../host/files.ts";
import type { SparseSegment } from "../../tar/pax.ts";
import { BARE_ENTRY, type EntryType, type TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { type CopyPath, lookedUp } from "./placement.ts";

const READ_BYTES = 256 * 1024;
/** A stretch of zeros that long is left as a hole, in a file that has holes. */
const HOLE_BYTES = 4096;
const SECOND_NS = 1_000_000_000n;

/** What a copy into a VM is of. */
export interface LocalSource {
  readonly isDirectory: boolean;
  /** The entries; the first, without a path, is the source itself. */
  contents(): AsyncGenerator<TarContent, void>;
}

/**
 * A file or directory of this machine.
 * @param options.archive Keep owners; root is the owner otherwise.
 * @param options.followLinks Follow the source if it is a link.
 * @throws FirectlError FILE_NOT_FOUND, PERMISSION_DENIED, IO_FAILED.
 */
export function openLocalSource(
  source: CopyPath,
  options: {
    readonly archive: boolean;
    readonly followLinks: boolean;
    readonly signal: AbortSignal | undefined;
  },
): LocalSource {
  const isFollowed = options.followLinks || source.isDirectory;
  const named = latin1Of(lookedUp(source));
  const root = attempt(named, () => (isFollowed ? realpathSync(bytesOf(named), "latin1") : named));
  const stats = attempt(root, () => lstatSync(bytesOf(root)));
  const walk = new LocalWalk(root, options);
  return { isDirectory: stats.isDirectory(), contents: () => walk.entries() };
}

class LocalWalk {
  readonly #root: string;
  readonly #archive: boolean;
  readonly #signal: AbortSignal | undefined;
  /** The path under which an inode with several links was met first. */
  readonly #links = new Map<string, string>();

  constructor(root: string, options: { archive: boolean; signal: AbortSignal | undefined }) {
    this.#root = root;
    this.#archive = options.archive;
    this.#signal = options.signal;
  }

  /** Depth first, names in the order of their bytes; sockets are left out, as docker does. */
  async *entries(): AsyncGenerator<TarContent, void> {
    const waiting = [""];
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      this.#signal?.throwIfAborted();
      const full = this.#full(path);
      const stats = attempt(full, () => lstatSync(bytesOf(full), { bigint: true }));
      const type = typeOf(stats);
      if (type === undefined) continue;
      yield* this.#entry(path, type, stats);
      if (type === "directory") waiting.push(...this.#below(path).reverse());
    }
  }

  #full(path: string): string {
    return path === "" ? this.#root : `${this.#root}/${path}`;
  }

  #below(path: string): string[] {
    const full = this.#full(path);
    const names = attempt(full, () => readdirSync(bytesOf(full), { encoding: "latin1" }));
    return names.sort().map((name) => (path === "" ? name : `${path}/${name}`));
  }

  *#entry(path: string, type: EntryType, stats: BigIntStats): Generator<TarContent, void> {
    const full = this.#full(path);
    const plain = this.#plainEntry(path, type, stats);
    if (type === "symlink") {
      yield { entry: { ...plain, linkPath: attempt(full, () => readlinkSync(bytesOf(full), "latin1")) } };
      return;
    }
    if (type !== "file") {
      yield { entry: plain };
      return;
    }
    if (stats.nlink > 1n) {
      const inode = `${stats.dev}:${stats.ino}`;
      const first = this.#links.get(inode);
      if (first !== undefined) {
        yield { entry: { ...plain, type: "link", linkPath: first, size: 0 } };
        return;
      }
      this.#links.set(inode, path);
    }
    yield* this.#file(full, plain);
  }

  *#file(full: string, plain: TarEntry): Generator<TarContent, void> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const descriptor = attempt(full, () => openSync(bytesOf(full), flags));
    try {
      const { size, blocks } = fstatSync(descriptor);
      const sparse = blocks * 512 < size ? segmentsOf(descriptor, size) : undefined;
      const segments = sparse ?? [{ offset: 0, length: size }];
      yield { entry: { ...plain, size, sparse }, data: this.#data(descriptor, { full, segments }) };
    } finally {
      closeSync(descriptor);
    }
  }

  /** What was said to be there must come: a file that has shrunk meanwhile ends in zeros, as in GNU tar. */
  *#data(
    descriptor: number,
    { full, segments }: { full: string; segments: readonly SparseSegment[] },
  ): Generator<Uint8Array, void> {
    for (const { offset, length } of segments) {
      for (let at = offset; at < offset + length; ) {
        this.#signal?.throwIfAborted();
        const piece = Buffer.alloc(Math.min(READ_BYTES, offset + length - at));
        attempt(full, () => readSync(descriptor, piece, 0, piece.length, at));
        at += piece.length;
        yield piece;
      }
    }
  }

  #plainEntry(path: string, type: EntryType, stats: BigIntStats): TarEntry {
    const mtimeNsec = Number(((stats.mtimeNs % SECOND_NS) + SECOND_NS) % SECOND_NS);
    const mtimeSec = Number((stats.mtimeNs - BigInt(mtimeNsec)) / SECOND_NS);
    const isDevice = type === "character-device" || type === "block-device";
    return {
      ...BARE_ENTRY,
      path,
      type,
      mode: Number(stats.mode) & 0o7777,
      uid: this.#archive ? Number(stats.uid) : 0,
      gid: this.#archive ? Number(stats.gid) : 0,
      mtimeSec,
      mtimeNsec,
      atimeSec: mtimeSec,
      atimeNsec: mtimeNsec,
      devMajor: isDevice ? majorOf(stats.rdev) : 0,
      devMinor: isDevice ? minorOf(stats.rdev) : 0,
    };
  }
}

function typeOf(stats: BigIntStats): EntryType | undefined {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isSymbolicLink()) return "symlink";
  if (stats.isCharacterDevice()) return "character-device";
  if (stats.isBlockDevice()) return "block-device";
  return stats.isFIFO() ? "fifo" : undefined;
}

/** Where a file has anything but zeros; Node cannot ask the filesystem. */
function segmentsOf(descriptor: number, size: number): SparseSegment[] {
  const segments: Array<{ offset: number; length: number }> = [];
  const zeros = Buffer.alloc(HOLE_BYTES);
  const buffer = Buffer.alloc(READ_BYTES);
  for (let at = 0; at < size; ) {
    const length = readSync(descriptor, buffer, 0, Math.min(READ_BYTES, size - at), at);
    if (length === 0) break;
    for (let begin = 0; begin < length; begin += HOLE_BYTES) {
      const block = buffer.subarray(begin, Math.min(begin + HOLE_BYTES, length));
      if (block.equals(zeros.subarray(0, block.length))) continue;
      const last = segments.at(-1);
      if (last !== undefined && last.offset + last.length === at + begin) last.length += block.length;
      else segments.push({ offset: at + begin, length: block.length });
    }
    at += length;
  }
  return segments;
}

/** makedev(3) of glibc and musl. */
function majorOf(bits: bigint): number {
  return Number(((bits >> 8n) & 0xfffn) | ((bits >> 32n) & 0xffff_f000n));
}

function minorOf(bits: bigint): number {
  return Number((bits & 0xffn) | ((bits >> 12n) & 0xffff_ff00n));
}

/** Paths are kept as bytes in latin1 strings, as in tar entries. */
function latin1Of(path: string): string {
  return Buffer.from(path, "utf8").toString("latin1");
}

function bytesOf(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw ioError(`cannot read ${Buffer.from(path, "latin1").toString("utf8")}`, error);
  }
}
