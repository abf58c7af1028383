import { writeSync, writevSync } from "node:fs";
import { ioError } from "../../host/files.ts";
import { BLOCK_SIZE } from "./format.ts";

/** Writes are gathered to this size: system calls are few, and larger ones measured slower. */
const STAGING_BYTES = 256 * 1024;
/** Pieces from this size on are written from where they are; copying smaller ones is cheaper than a vector. */
const DIRECT_BYTES = 32 * 1024;

/**
 * An image file under construction: bytes are appended at a position that can be set to any block. What is never
 * written stays a hole. Synchronous on purpose: the page cache takes the bytes faster than a promise settles.
 */
export class BlockFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #staging: Buffer = Buffer.allocUnsafeSlow(STAGING_BYTES);
  #staged = 0;
  /** Where the first staged byte goes. */
  #position = 0;

  /** @param fd Stays the caller's to close. */
  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  /** The block at which the next byte goes; what was appended last must have been padded. */
  get nextBlock(): number {
    return (this.#position + this.#staged) / BLOCK_SIZE;
  }

  /** Continues at `block`. */
  seek(block: number): void {
    this.seekByte(block * BLOCK_SIZE);
  }

  /** Continues at the byte `position`. */
  seekByte(position: number): void {
    if (this.#position + this.#staged === position) return;
    this.flush();
    this.#position = position;
  }

  /** Appends `bytes`, which may change once this returns. */
  write(bytes: Buffer): void {
    if (bytes.length >= DIRECT_BYTES) {
      this.#writeOut(bytes);
      return;
    }
    let from = 0;
    while (from < bytes.length) {
      const copied = bytes.copy(this.#staging, this.#staged, from);
      from += copied;
      this.#staged += copied;
      if (this.#staged === STAGING_BYTES) this.flush();
    }
  }

  /** Appends `length` zero bytes, less than a block. */
  zeros(length: number): void {
    this.write(ZEROS.subarray(0, length));
  }

  /** Fills the last block with zeros. */
  pad(): void {
    const over = (this.#position + this.#staged) % BLOCK_SIZE;
    if (over !== 0) this.zeros(BLOCK_SIZE - over);
  }

  /** Writes what is still staged. */
  flush(): void {
    if (this.#staged > 0) this.#writeOut(undefined);
  }

  #writeOut(bytes: Buffer | undefined): void {
    let pieces: Buffer[] = this.#staged === 0 ? [] : [this.#staging.subarray(0, this.#staged)];
    if (bytes !== undefined) pieces.push(bytes);
    let total = this.#staged + (bytes?.length ?? 0);
    this.#staged = 0;
    try {
      while (pieces.length > 0) {
        const [first] = pieces;
        const written =
          pieces.length === 1 && first !== undefined
            ? writeSync(this.#fd, first, 0, first.length, this.#position)
            : writevSync(this.#fd, pieces, this.#position);
        this.#position += written;
        pieces = written === total ? [] : after(pieces, written);
        total -= written;
      }
    } catch (error) {
      throw ioError(`cannot write ${this.#path}`, error);
    }
  }
}

/** What is left of `pieces` once their first `written` bytes are gone: a write may be short. */
function after(pieces: readonly Buffer[], written: number): Buffer[] {
  let skip = written;
  return pieces.flatMap((piece) => {
    const gone = Math.min(skip, piece.length);
    skip -= gone;
    return gone === piece.length ? [] : [piece.subarray(gone)];
  });
}

const ZEROS: Buffer = Buffer.alloc(BLOCK_SIZE);
