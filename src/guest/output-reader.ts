import type { FileHandle } from "node:fs/promises";
import { FirectlError } from "../core/errors.ts";
import { KIB } from "../core/units.ts";
import {
  BLOCK_BYTES,
  decodeRecord,
  decodeRingHeader,
  MAX_PAYLOAD_BYTES,
  MIN_RING_BYTES,
  OUTPUT_OFFSET,
  type OutputRecord,
  RECORD_HEADER_BYTES,
  RING_OFFSET,
  type RingHeader,
} from "./control-drive-format.ts";
import { FileChanges } from "./file-changes.ts";

/** Output, or the number of bytes (record headers included) that were overwritten before they were read. */
export type OutputEvent = OutputRecord | { readonly lost: number };

export interface FollowOptions {
  /** Settles when the guest can write no more; what is there by then is still delivered. */
  readonly ended: Promise<unknown>;
  readonly signal?: AbortSignal | undefined;
}

/** A piece larger than the largest record: each read makes progress. */
const READ_BYTES = 512 * KIB;

/** Reads a guest's output from its control drive, from `position` on, in order, each byte once. */
export class OutputReader {
  readonly #handle: FileHandle;
  #ringBytes: number | undefined;
  #position: number;

  /** `position` is that of an earlier reader, or 0 for everything that is still there. */
  constructor(handle: FileHandle, position = 0) {
    this.#handle = handle;
    this.#position = position;
  }

  /** Where what is written from now on begins. */
  static async endOf(handle: FileHandle): Promise<number> {
    return (await new OutputReader(handle).#readHeader())?.head ?? 0;
  }

  /** Where the next record starts. */
  get position(): number {
    return this.#position;
  }

  /** How many bytes of records the drive holds; the guest cannot change that. */
  capacity(): Promise<number> {
    return this.#measureRing();
  }

  /**
   * Yields what is on the drive now, and ends there however fast a guest writes: at most what the ring holds.
   * @throws FirectlError CONTROL_DRIVE_INVALID when the file is too short to be a control drive.
   */
  async *available(): AsyncGenerator<OutputEvent, void> {
    const now = await this.#readHeader();
    // An invalid header is either no output yet or a write caught half-way: the next look will tell.
    if (now === undefined) return;
    for (let { tail } = now; this.#position < now.head; ) {
      yield* this.#readUpTo({ head: now.head, tail });
      tail = (await this.#readHeader())?.tail ?? tail;
    }
  }

  /**
   * Yields what is on the drive and then what the guest writes, until `ended`.
   * @throws The reason of `signal` when it aborts.
   */
  async *follow(options: FollowOptions): AsyncGenerator<OutputEvent, void> {
    using changes = new FileChanges(this.#handle);
    const end = new AbortController();
    const signal = options.signal === undefined ? end.signal : AbortSignal.any([end.signal, options.signal]);
    const finish = (): void => end.abort();
    options.ended.then(finish, finish);
    for (let last = false; !last; ) {
      // Read before the bytes are: what was written before the end is there to be read after it.
      last = end.signal.aborted;
      const before = this.#position;
      for await (const event of this.available()) {
        options.signal?.throwIfAborted();
        yield event;
      }
      options.signal?.throwIfAborted();
      // More may have come while that was delivered.
      if (!last && this.#position === before) await changes.next(signal);
    }
  }

  async *#readUpTo(header: RingHeader): AsyncGenerator<OutputEvent, void> {
    if (header.tail > this.#position) yield this.#lose(header.tail);
    if (this.#position >= header.head) return;
    const bytes = await this.#readRing(this.#position, Math.min(header.head - this.#position, READ_BYTES));
    const after = (await this.#readHeader()) ?? header;
    const end = this.#position + bytes.length;
    let offset = 0;
    if (after.tail > this.#position) {
      // Overwritten while it was being read, up to the new tail.
      offset = Math.min(after.tail, end) - this.#position;
      yield this.#lose(after.tail);
    }
    while (offset < bytes.length) {
      const decoded = decodeRecord(bytes.subarray(offset));
      if (decoded === "incomplete" && end < header.head && bytes.length - offset < MAX_RECORD_BYTES) return;
      if (typeof decoded === "string") {
        // No honest guest writes this. Nothing says where the next record starts, but its end is known.
        yield this.#lose(header.head);
        return;
      }
      this.#position += decoded.length;
      offset += decoded.length;
      yield decoded.record;
    }
  }

  #lose(position: number): OutputEvent {
    const lost = position - this.#position;
    this.#position = position;
    return { lost };
  }

  async #readHeader(): Promise<RingHeader | undefined> {
    const ringBytes = await this.#measureRing();
    const block = Buffer.alloc(20);
    const { bytesRead } = await this.#handle.read(block, 0, block.length, OUTPUT_OFFSET);
    return decodeRingHeader(block.subarray(0, bytesRead), ringBytes);
  }

  /** The guest cannot change the size of its drive: that, and not its superblock, tells the ring's. */
  async #measureRing(): Promise<number> {
    if (this.#ringBytes === undefined) {
      const { size } = await this.#handle.stat();
      const ringBytes = size - RING_OFFSET;
      if (ringBytes < MIN_RING_BYTES || ringBytes % BLOCK_BYTES !== 0) {
        throw new FirectlError(
          "CONTROL_DRIVE_INVALID",
          `a control drive of ${size} bytes has no output ring`,
        );
      }
      this.#ringBytes = ringBytes;
    }
    return this.#ringBytes;
  }

  async #readRing(position: number, length: number): Promise<Buffer> {
    const ringBytes = await this.#measureRing();
    const bytes = Buffer.allocUnsafe(length);
    const start = position % ringBytes;
    const first = Math.min(length, ringBytes - start);
    const reads = [this.#handle.read(bytes, 0, first, RING_OFFSET + start)];
    if (first < length) reads.push(this.#handle.read(bytes, first, length - first, RING_OFFSET));
    const results = await Promise.all(reads);
    const bytesRead = results.reduce((sum, result) => sum + result.bytesRead, 0);
    if (bytesRead !== length) {
      throw new FirectlError(
        "CONTROL_DRIVE_INVALID",
        `the control drive ends ${length - bytesRead} bytes early`,
      );
    }
    return bytes;
  }
}

const MAX_RECORD_BYTES = RECORD_HEADER_BYTES + MAX_PAYLOAD_BYTES;
