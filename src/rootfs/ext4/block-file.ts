import { fdatasync, fsync, writeSync, writevSync } from "node:fs";
import { promisify } from "node:util";
import { MIB } from "../../core/units.ts";
import { ioError } from "../../host/files.ts";
import { BLOCK_SIZE } from "./format.ts";

/** Writes are gathered to this size: system calls are few, and larger ones measured slower. */
const STAGING_BYTES = 256 * 1024;
/** Pieces from this size on are written from where they are; copying smaller ones is cheaper than a vector. */
const DIRECT_BYTES = 32 * 1024;
/** So much written since the last time is sent to the disk while more is written: the end need not wait for all. */
const SYNC_EVERY_BYTES: number = 64 * MIB;

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
  readonly #syncsEarly: boolean;
  readonly #onWritten: ((position: number, length: number) => void) | undefined;
  #unsynced = 0;
  /** The sync under way; it never rejects. */
  #syncing: Promise<unknown> | undefined;
  #syncFailure: unknown;

  /**
   * @param fd Stays the caller's to close, after {@link settle}.
   * @param options `syncsEarly` when {@link sync} will be called in the end; `onWritten` hears where each piece went,
   * in bytes.
   */
  constructor(
    fd: number,
    path: string,
    options: {
      syncsEarly?: boolean;
      onWritten?: ((position: number, length: number) => void) | undefined;
    } = {},
  ) {
    this.#fd = fd;
    this.#path = path;
    this.#syncsEarly = options.syncsEarly ?? false;
    this.#onWritten = options.onWritten;
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
        this.#onWritten?.(this.#position, written);
        this.#position += written;
        this.#unsynced += written;
        pieces = written === total ? [] : after(pieces, written);
        total -= written;
      }
    } catch (error) {
      throw ioError(`cannot write ${this.#path}`, error);
    }
    if (this.#syncsEarly && this.#unsynced >= SYNC_EVERY_BYTES) this.#syncEarly();
  }

  /** What fails here is told by {@link sync}: a descriptor reports an error once. */
  #syncEarly(): void {
    if (this.#syncing !== undefined) return;
    this.#unsynced = 0;
    this.#syncing = promisify(fdatasync)(this.#fd)
      .catch((error: unknown) => {
        this.#syncFailure ??= error;
      })
      .finally(() => {
        this.#syncing = undefined;
      });
  }

  /**
   * Waits until everything is on the disk.
   * @throws FirectlError NO_SPACE, IO_FAILED.
   */
  async sync(): Promise<void> {
    try {
      await this.#syncing;
      if (this.#syncFailure !== undefined) throw this.#syncFailure;
      await promisify(fsync)(this.#fd);
    } catch (error) {
      throw ioError(`cannot write ${this.#path}`, error);
    }
  }

  /** Waits until nothing uses the descriptor. */
  async settle(): Promise<void> {
    await this.#syncing;
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
