import { MIB } from "../../core/units.ts";
import type { DiskInode } from "../ext4-reader/inode.ts";
import type { Volume } from "../ext4-reader/volume.ts";

/** Inodes that a page of marks stands for, a bit each. */
const PAGE_INODES = 32_768;
/** Most bytes of paths that are kept for the further names of files. */
const MAX_PATH_BYTES: number = 256 * MIB;

/** What a walk has shown of a volume: a directory once, anything else under as many names as it has links. */
export class ShownInodes {
  readonly #volume: Volume;
  /** Only pages that have a mark. */
  readonly #pages = new Map<number, Uint8Array>();
  /** Of inodes with several links the path that was shown first, and how many more there may be. */
  readonly #links = new Map<number, { readonly first: string; left: number }>();
  #pathBytes = 0;

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  /**
   * Notes that a directory is shown.
   * @throws FirectlError DISK_INVALID for one that was: that is a loop, or a way to make little into much.
   */
  addDirectory({ number }: DiskInode): void {
    if (this.#mark(number)) {
      throw this.#volume.invalid(`inode ${number}: the directory has two places in the tree`);
    }
  }

  /**
   * Notes a name of what is no directory; returns the first one, if this is another.
   * @throws FirectlError DISK_INVALID when there are more names than links: little could be made into much.
   */
  addName({ number, links }: DiskInode, path: string): string | undefined {
    if (links === 1) {
      if (this.#mark(number)) throw this.#tooManyNames(number, links);
      return undefined;
    }
    const known = this.#links.get(number);
    if (known !== undefined) {
      if (known.left-- === 0) throw this.#tooManyNames(number, links);
      return known.first;
    }
    this.#pathBytes += path.length;
    if (this.#pathBytes > MAX_PATH_BYTES) {
      throw this.#volume.invalid(
        `inode ${number}: with it, the paths of files with several names have more than ${MAX_PATH_BYTES} bytes`,
      );
    }
    this.#links.set(number, { first: path, left: links - 1 });
    return undefined;
  }

  /** Whether it had been marked. */
  #mark(number: number): boolean {
    const page = Math.floor(number / PAGE_INODES);
    let marks = this.#pages.get(page);
    if (marks === undefined) {
      marks = new Uint8Array(PAGE_INODES / 8);
      this.#pages.set(page, marks);
    }
    const at = number % PAGE_INODES;
    const byte = marks[at >> 3] ?? 0;
    const bit = 1 << (at & 7);
    marks[at >> 3] = byte | bit;
    return (byte & bit) !== 0;
  }

  #tooManyNames(number: number, links: number): Error {
    return this.#volume.invalid(`inode ${number}: more names lead to it than its link count of ${links}`);
  }
}
