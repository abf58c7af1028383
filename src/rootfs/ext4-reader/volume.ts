import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { parseSuperblock, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, type Superblock } from "./superblock.ts";

/** Blocks kept for reading again: tables, directories, extent trees. */
const CACHE_BYTES = 4 * 2 ** 20;

/** Where the newest copy of a block stands in the journal. */
export interface JournaledBlock {
  /** Number of the block, within the journal's file, that holds the copy. */
  readonly at: number;
  /** Whether its first four bytes, which looked like the journal's own, were blanked out. */
  readonly escaped: boolean;
}

/**
 * A disk with an ext4 filesystem on it, open for reading: blocks by number, as they are once the journal has been
 * replayed. Nothing is ever written.
 */
export class Volume implements Disposable {
  readonly name: string;
  superblock: Superblock;
  readonly #fd: number;
  readonly #sizeBytes: number;
  #journal: ReadonlyMap<number, JournaledBlock> = new Map();
  readonly #cache = new Map<number, Buffer>();

  private constructor(name: string, fd: number) {
    this.name = name;
    this.#fd = fd;
    this.#sizeBytes = fstatSync(fd).size;
    this.superblock = parseSuperblock(this.#superblockBytes(), name, this.#sizeBytes);
  }

  /** @throws FirectlError DISK_INVALID, UNSUPPORTED, FILE_NOT_FOUND, PERMISSION_DENIED, IO_FAILED. */
  static open(path: string, name: string = path): Volume {
    let fd: number | undefined;
    try {
      fd = openSync(path, "r");
      return new Volume(name, fd);
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      throw ioError(`cannot read ${path}`, error);
    }
  }

  /** From here on blocks are read as the journal has them. */
  replayed(journal: ReadonlyMap<number, JournaledBlock>): void {
    this.#journal = journal;
    this.#cache.clear();
    const first = Math.floor(SUPERBLOCK_OFFSET / this.superblock.blockSize);
    if (!journal.has(first)) return;
    const at = SUPERBLOCK_OFFSET % this.superblock.blockSize;
    const bytes = this.block(first).subarray(at, at + SUPERBLOCK_BYTES);
    this.superblock = parseSuperblock(bytes, this.name, this.#sizeBytes);
  }

  /** An error about what stands on this disk. */
  invalid(problem: string): FirectlError {
    return new FirectlError("DISK_INVALID", `${this.name}: ${problem}`);
  }

  /** An error about what this reader cannot do. */
  unsupported(problem: string): FirectlError {
    return new FirectlError("UNSUPPORTED", `${this.name}: ${problem}`);
  }

  /** Whether `count` blocks from `first` on are blocks of the filesystem. */
  hasBlocks(first: number, count: number): boolean {
    return first >= this.superblock.firstDataBlock && first + count <= this.superblock.blocks;
  }

  /** A block of metadata, kept for the next time; not to be changed. The caller has checked its number. */
  block(number: number): Buffer {
    const { blockSize } = this.superblock;
    const cached = this.#cache.get(number);
    if (cached !== undefined) {
      // A map remembers the order of insertion: the oldest goes first.
      this.#cache.delete(number);
      this.#cache.set(number, cached);
      return cached;
    }
    const bytes = Buffer.allocUnsafeSlow(blockSize);
    this.readBlocks(number, bytes);
    this.#cache.set(number, bytes);
    if (this.#cache.size * blockSize > CACHE_BYTES) {
      const [oldest] = this.#cache.keys();
      if (oldest !== undefined) this.#cache.delete(oldest);
    }
    return bytes;
  }

  /** Fills `target`, a whole number of blocks, from block `first` on. */
  readBlocks(first: number, target: Buffer): void {
    const { blockSize } = this.superblock;
    this.#read(first * blockSize, target);
    if (this.#journal.size === 0) return;
    for (let at = 0; at < target.length; at += blockSize) {
      const copy = this.#journal.get(first + at / blockSize);
      if (copy === undefined) continue;
      this.#read(copy.at * blockSize, target.subarray(at, at + blockSize));
      if (copy.escaped) target.writeUInt32BE(JOURNAL_MAGIC, at);
    }
  }

  #superblockBytes(): Buffer {
    if (this.#sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) {
      throw this.invalid(`${this.#sizeBytes} bytes are no filesystem`);
    }
    const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
    this.#read(SUPERBLOCK_OFFSET, bytes);
    return bytes;
  }

  #read(position: number, target: Buffer): void {
    for (let done = 0; done < target.length; ) {
      let read: number;
      try {
        read = readSync(this.#fd, target, done, target.length - done, position + done);
      } catch (error) {
        throw ioError(`cannot read ${this.name}`, error);
      }
      if (read === 0) throw this.invalid(`the disk ends at byte ${position + done}`);
      done += read;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** h_magic of every block that is the journal's own. */
export const JOURNAL_MAGIC = 0xc03b3998;
