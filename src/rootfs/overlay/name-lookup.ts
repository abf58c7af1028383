import type { Volume } from "../ext4-reader/volume.ts";
import { namesIn, type Place } from "./place.ts";

/** Names kept of directories that were looked into. */
const CACHED_NAMES = 100_000;
/** Most names of one directory that is looked into. */
const MAX_NAMES = 4_000_000;

/** Looks up names in the directories of a volume. */
export class NameLookup {
  readonly #volume: Volume;
  readonly #cache = new Map<number, ReadonlyMap<string, number>>();
  #cachedNames = 0;
  readonly #reads: number;
  #readsLeft: number;

  /** @param reads How many blocks may be read before the look-ups are taken for an attack. */
  constructor(volume: Volume, reads: number) {
    this.#volume = volume;
    this.#reads = reads;
    this.#readsLeft = reads;
  }

  /** The inode that a directory has under a name. @throws FirectlError DISK_INVALID. */
  inodeOf(directory: Place, name: string): number | undefined {
    return this.#names(directory).get(name);
  }

  #names(directory: Place): ReadonlyMap<string, number> {
    const cached = this.#cache.get(directory.inode.number);
    if (cached !== undefined) return cached;
    const names = namesIn(directory, { room: MAX_NAMES, onBlocks: (count) => this.#takeReads(count) });
    if (this.#cachedNames + names.size > CACHED_NAMES) {
      this.#cache.clear();
      this.#cachedNames = 0;
    }
    this.#cache.set(directory.inode.number, names);
    this.#cachedNames += names.size;
    return names;
  }

  #takeReads(count: number): void {
    this.#readsLeft -= count;
    if (this.#readsLeft >= 0) return;
    throw this.#volume.invalid(`looking up names reads more than ${this.#reads} blocks of directories`);
  }
}
