import type { SparseSegment } from "../../tar/pax.ts";
import type { BlockFile } from "../ext4/block-file.ts";
import { BLOCK_SIZE } from "../ext4/format.ts";
import type { InodeId, InodeTable, Run } from "../ext4/inodes.ts";

/** Puts the data of one file after another into the image, and into each inode where its data is. */
export class FileData {
  readonly #file: BlockFile;
  readonly #inodes: InodeTable;
  #inode: InodeId | undefined;
  #sparse: SparseWriter | undefined;
  /** Bytes of file data so far. */
  bytes = 0;

  constructor(file: BlockFile, inodes: InodeTable) {
    this.#file = file;
    this.#inodes = inodes;
  }

  /** Begins the data of `inode`. */
  begin(inode: InodeId, segments: readonly SparseSegment[] | undefined): void {
    this.#inode = inode;
    this.#sparse = segments === undefined ? undefined : new SparseWriter(this.#file, segments);
    if (this.#sparse === undefined && this.#inodes.size(inode) > 0) {
      this.#inodes.setBlock(inode, this.#file.nextBlock);
    }
  }

  write(bytes: Buffer): void {
    this.bytes += bytes.length;
    if (this.#sparse === undefined) this.#file.write(bytes);
    else this.#sparse.write(bytes);
  }

  end(): void {
    this.#file.pad();
    if (this.#inode !== undefined && this.#sparse !== undefined) {
      this.#inodes.setRuns(this.#inode, this.#sparse.finish());
    }
    this.#inode = undefined;
    this.#sparse = undefined;
  }
}

/**
 * Writes the segments of a sparse file: a block that has any data is written whole. Segments need not keep to
 * block boundaries, and several may share a block.
 */
class SparseWriter {
  readonly #file: BlockFile;
  readonly #segments: readonly SparseSegment[];
  readonly #runs: Run[] = [];
  #index = 0;
  /** Bytes of the current segment already written. */
  #done = 0;
  /** Byte of the file at which the image's next byte stands. */
  #at = 0;
  #runStart = 0;
  #runBlock: number | undefined;

  constructor(file: BlockFile, segments: readonly SparseSegment[]) {
    this.#file = file;
    this.#segments = segments;
  }

  write(bytes: Buffer): void {
    let from = 0;
    while (from < bytes.length) {
      const segment = this.#segments[this.#index];
      if (segment === undefined) throw new Error("a sparse map covers all of its data");
      if (this.#done === 0) this.#goTo(segment.offset);
      const end = Math.min(bytes.length, from + segment.length - this.#done);
      this.#file.write(bytes.subarray(from, end));
      this.#done += end - from;
      this.#at += end - from;
      from = end;
      if (this.#done === segment.length) {
        this.#index++;
        this.#done = 0;
      }
    }
  }

  finish(): Run[] {
    this.#closeRun();
    return this.#runs;
  }

  #goTo(offset: number): void {
    const start = offset - (offset % BLOCK_SIZE);
    const blockEnd = Math.ceil(this.#at / BLOCK_SIZE) * BLOCK_SIZE;
    if (this.#runBlock === undefined || start > blockEnd) {
      this.#closeRun();
      this.#runStart = start;
      this.#runBlock = this.#file.nextBlock;
      this.#at = start;
    }
    // The gap may reach over the end of one block into the next one.
    for (let gap = offset - this.#at; gap > 0; gap = offset - this.#at) {
      const zeros = Math.min(gap, BLOCK_SIZE);
      this.#file.zeros(zeros);
      this.#at += zeros;
    }
  }

  #closeRun(): void {
    if (this.#runBlock === undefined) return;
    this.#file.pad();
    const length = Math.ceil((this.#at - this.#runStart) / BLOCK_SIZE);
    this.#runs.push({ logical: this.#runStart / BLOCK_SIZE, physical: this.#runBlock, length });
    this.#runBlock = undefined;
  }
}
