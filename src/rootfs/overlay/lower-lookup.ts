import { readInode } from "../ext4-reader/inode.ts";
import { ROOT_INODE } from "../ext4-reader/superblock.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import { NameLookup } from "./name-lookup.ts";
import { isDirectory, isWhiteout, type Place } from "./place.ts";

/** How often, on average, each block of the layer may be read by look-ups before they are taken for an attack. */
const READS_PER_BLOCK = 16;
const FREE_READS = 100_000;
/** PATH_MAX. */
const MAX_PATH_BYTES = 4096;

/** Finds what renamed directories were in the lower layer. */
export class LowerLookup {
  readonly #volume: Volume;
  readonly #names: NameLookup;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#names = new NameLookup(volume, FREE_READS + READS_PER_BLOCK * volume.superblock.blocks);
  }

  /** The inode of an absolute path, symlinks not followed; undefined where the layer has none. */
  byPath(path: string): Place | undefined {
    const parts = path.slice(1).split("/");
    if (path.length > MAX_PATH_BYTES || parts.some((part) => part === "" || part === "." || part === "..")) {
      throw this.#volume.invalid("the guest's disk redirects to a path that is none");
    }
    let place: Place | undefined = { volume: this.#volume, inode: readInode(this.#volume, ROOT_INODE) };
    for (const part of parts) {
      if (place === undefined) return undefined;
      place = this.child(place, part);
    }
    return place;
  }

  /** What a directory of the layer has under a name; undefined for whiteouts, which are in lower layers too. */
  child(directory: Place, name: string): Place | undefined {
    if (!isDirectory(directory)) return undefined;
    const number = this.#names.inodeOf(directory, name);
    if (number === undefined) return undefined;
    const place = { volume: this.#volume, inode: readInode(this.#volume, number) };
    return isWhiteout(place) ? undefined : place;
  }
}
