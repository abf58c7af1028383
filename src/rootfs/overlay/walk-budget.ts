import { MIB } from "../../core/units.ts";
import type { DiskInode } from "../ext4-reader/inode.ts";
import type { Volume } from "../ext4-reader/volume.ts";

/**
 * Bytes of paths and attributes that any disk may have, and for each byte of the disk. An inode's 256 bytes and a
 * name's few can be a file with a long path and with attributes that it shares with others.
 */
const FREE_BYTES: number = 256 * MIB;
const BYTES_PER_DISK_BYTE = 4;

/** What a walk may still take from a volume, so that a small disk makes no endless archive. */
export class WalkBudget {
  readonly #volume: Volume;
  readonly #bytes: number;
  /** Blocks of files and directories and of their maps: those of a sound filesystem belong to one of them. */
  #blocksLeft: number;
  #bytesLeft: number;

  constructor(volume: Volume) {
    const { blocks, blockSize } = volume.superblock;
    this.#volume = volume;
    this.#bytes = FREE_BYTES + BYTES_PER_DISK_BYTE * blocks * blockSize;
    this.#blocksLeft = blocks;
    this.#bytesLeft = this.#bytes;
  }

  /** @throws FirectlError DISK_INVALID when `inode` has more blocks than are left. */
  takeBlocks({ number }: DiskInode, count: number): void {
    this.#blocksLeft -= count;
    if (this.#blocksLeft >= 0) return;
    const { blocks } = this.#volume.superblock;
    throw this.#volume.invalid(
      `inode ${number}: with it, the files have more than the disk's ${blocks} blocks`,
    );
  }

  /** Takes bytes of a path or of attributes. @throws FirectlError DISK_INVALID when fewer are left. */
  takeBytes({ number }: DiskInode, count: number): void {
    this.#bytesLeft -= count;
    if (this.#bytesLeft >= 0) return;
    throw this.#volume.invalid(
      `inode ${number}: with it, paths and attributes have more than ${this.#bytes} bytes`,
    );
  }
}
