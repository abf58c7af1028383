import { readInode } from "../ext4-reader/inode.ts";
import { ROOT_INODE } from "../ext4-reader/superblock.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import { isDirectory, isWhiteout, namesIn, type Place } from "./place.ts";

/** Names kept of directories that were looked into. */
const CACHED_NAMES = 100_000;
/** Most names of one directory that is looked into. */
const MAX_NAMES = 4_000_000;
/** How often, on average, each block of the layer may be read by look-ups before they are taken for an attack. */
const READS_PER_BLOCK = 16;
const FREE_READS = 100_000;
/** PATH_MAX. */
const MAX_PATH_BYTES = 4096;

/** Finds what renamed directories were in the lower layer. */
export class LowerLookup {
  readonly #volume: Volume;
  readonly #cache = new Map<number, ReadonlyMap<string, number>>();
  #cachedNames = 0;
  #readsLeft: number;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#readsLeft = FREE_READS + READS_PER_BLOCK * volume.superblock.blocks;
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
    const number = this.#names(directory).get(name);
    if (number === undefined) return undefined;
    const place = { volume: this.#volume, inode: readInode(this.#volume, number) };
    return isWhiteout(place) ? undefined : place;
  }

  #names(directory: Place): ReadonlyMap<string, number> {
    const cached = this.#cache.get(directory.inode.number);
    if (cached !== undefined) return cached;
    const names = namesIn(directory, {
      room: MAX_NAMES,
      onBlocks: (count) => {
        this.#readsLeft -= count;
        if (this.#readsLeft < 0) throw this.#volume.invalid("too many look-ups of renamed directories");
      },
    });
    if (this.#cachedNames + names.size > CACHED_NAMES) {
      this.#cache.clear();
      this.#cachedNames = 0;
    }
    this.#cache.set(directory.inode.number, names);
    this.#cachedNames += names.size;
    return names;
  }
}
