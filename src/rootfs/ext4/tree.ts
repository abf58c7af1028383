import { randomWord } from "../../host/random.ts";
import { ByteArena } from "./byte-arena.ts";
import { type InodeId, InodeTable, type NewInode } from "./inodes.ts";
import { RecordTable } from "./record-table.ts";

/*
 * A tree of files. A million of them are kept in some 100 bytes each: no object stands for a file.
 *
 *   place      a name in a directory
 *              0 the directory, 0 for a root | 1 address of the name | 2 length of the name 8, marks 24 | 3 inode
 *              4 next place of the directory | 5 next place of the same hash | 6 the directory that it is, or 0
 *   directory  0 its place | 1 first place in it | 2 last place in it | 3 what the layers have above it
 *
 * One hash table finds names in all directories. A directory's places are in the order in which they came.
 */
const DIRECTORY = 0;
const NAME = 1;
const LENGTH_AND_MARKS = 2;
const INODE = 3;
const NEXT = 4;
const CHAIN = 5;
const IS_DIRECTORY = 6;
const PLACE_WORDS = 7;

const PLACE = 0;
const FIRST = 1;
const LAST = 2;
const ABOVE = 3;
const DIRECTORY_WORDS = 4;

declare const brand: unique symbol;
/** Names a place in a {@link FileTree}. */
export type PlaceId = number & { readonly [brand]: "PlaceId" };
/** Names a directory in a {@link FileTree}. */
export type DirectoryId = number & { readonly [brand]: "DirectoryId" };

/** Longest name, in bytes. */
export const MAX_NAME_BYTES = 255;

/** Files under their names. Names are bytes in latin1 strings. */
export class FileTree {
  readonly inodes: InodeTable = new InodeTable();
  readonly #places: RecordTable = new RecordTable(PLACE_WORDS);
  readonly #directories: RecordTable = new RecordTable(DIRECTORY_WORDS);
  readonly #names: ByteArena = new ByteArena();
  /** First place of each hash. */
  #heads: Uint32Array = new Uint32Array(1024);
  /** Hashes cannot be foreseen, so nobody can make names that all have the same. */
  readonly #seed: number = randomWord();

  /** Adds a directory that lies in none. */
  addRoot(inode: InodeId): PlaceId {
    const place = this.#newPlace(inode);
    this.makeDirectory(place);
    return place;
  }

  /** Adds a place that `directory` does not have yet, at its end. */
  add(directory: DirectoryId, name: string, inode: InodeId): PlaceId {
    if (name.length > MAX_NAME_BYTES) throw new Error("names have been checked");
    const place = this.#newPlace(inode);
    this.#places.set(place, NAME, this.#names.addText(name));
    this.#places.set(place, LENGTH_AND_MARKS, name.length);
    if (this.#places.count > this.#heads.length) this.#rehash();
    this.#append(directory, place);
    return place;
  }

  /** Adds an empty directory in the directory that `parent` is. */
  addDirectory(parent: PlaceId, name: string, inode: NewInode): PlaceId {
    const directory = this.directory(parent);
    if (directory === undefined) throw new Error("only directories have places");
    const place = this.add(directory, name, this.inodes.add(inode));
    this.makeDirectory(place);
    return place;
  }

  find(directory: DirectoryId, name: string): PlaceId | undefined {
    const places = this.#places;
    const { length } = name;
    let place = this.#heads[this.#bucket(directory, name)] ?? 0;
    while (place !== 0) {
      if (
        places.get(place, DIRECTORY) === directory &&
        (places.get(place, LENGTH_AND_MARKS) & 0xff) === length &&
        this.#names.equals(places.get(place, NAME), name)
      ) {
        return place as PlaceId; // Chains are made of places.
      }
      place = places.get(place, CHAIN);
    }
    return undefined;
  }

  /** Puts a place that another directory has at the end of `directory`, which must not have its name. */
  move(place: PlaceId, directory: DirectoryId): void {
    this.#unchain(place);
    this.#append(directory, place);
  }

  /** Takes out of a directory what `keep` says no of. */
  filter(directory: DirectoryId, keep: (place: PlaceId) => boolean): void {
    let kept: PlaceId | undefined;
    let place = this.first(directory);
    this.#directories.set(directory, FIRST, 0);
    while (place !== undefined) {
      const next = this.next(place);
      if (keep(place)) {
        if (kept === undefined) this.#directories.set(directory, FIRST, place);
        else this.#places.set(kept, NEXT, place);
        kept = place;
      } else {
        this.#unchain(place);
      }
      place = next;
    }
    if (kept !== undefined) this.#places.set(kept, NEXT, 0);
    this.#directories.set(directory, LAST, kept ?? 0);
  }

  first(directory: DirectoryId): PlaceId | undefined {
    return optionalPlace(this.#directories.get(directory, FIRST));
  }

  /** The place after `place` in its directory. */
  next(place: PlaceId): PlaceId | undefined {
    return optionalPlace(this.#places.get(place, NEXT));
  }

  name(place: PlaceId): string {
    return this.#names.text(this.#places.get(place, NAME), this.nameLength(place));
  }

  nameLength(place: PlaceId): number {
    return this.#places.get(place, LENGTH_AND_MARKS) & 0xff;
  }

  /** Copies the bytes of a name to `target`, from `at` on. */
  copyName(place: PlaceId, target: Buffer, at: number): void {
    this.#names.copy(this.#places.get(place, NAME), this.nameLength(place), { target, at });
  }

  inode(place: PlaceId): InodeId {
    return this.#places.get(place, INODE) as InodeId; // Every place has one.
  }

  setInode(place: PlaceId, inode: InodeId): void {
    this.#places.set(place, INODE, inode);
  }

  /** 24 bits for whoever makes the tree. */
  marks(place: PlaceId): number {
    return this.#places.get(place, LENGTH_AND_MARKS) >>> 8;
  }

  setMarks(place: PlaceId, marks: number): void {
    this.#places.set(place, LENGTH_AND_MARKS, this.nameLength(place) | (marks << 8));
  }

  /** The directory that `place` is, or undefined if it is none. */
  directory(place: PlaceId): DirectoryId | undefined {
    const directory = this.#places.get(place, IS_DIRECTORY);
    return directory === 0 ? undefined : (directory as DirectoryId); // What makeDirectory() has put there.
  }

  /** Makes `place` an empty directory. */
  makeDirectory(place: PlaceId): DirectoryId {
    const directory = this.#directories.add() as DirectoryId; // Here directories get their names.
    this.#directories.set(directory, PLACE, place);
    this.#places.set(place, IS_DIRECTORY, directory);
    return directory;
  }

  /** Makes `place` something that is no directory; what the directory held is lost. */
  unmakeDirectory(place: PlaceId): void {
    this.#places.set(place, IS_DIRECTORY, 0);
  }

  place(directory: DirectoryId): PlaceId {
    return this.#directories.get(directory, PLACE) as PlaceId; // Every directory is one.
  }

  /** The directory that `place` lies in, undefined for a root. */
  parent(place: PlaceId): DirectoryId | undefined {
    const directory = this.#places.get(place, DIRECTORY);
    return directory === 0 ? undefined : (directory as DirectoryId); // What #append() has put there.
  }

  /** The names from the root to `place`, joined by slashes. */
  path(place: PlaceId): string {
    const names: string[] = [];
    let at = place;
    for (let parent = this.parent(at); parent !== undefined; parent = this.parent(at)) {
      names.push(this.name(at));
      at = this.place(parent);
    }
    return names.reverse().join("/");
  }

  /** A word for whoever makes the tree. */
  above(directory: DirectoryId): number {
    return this.#directories.get(directory, ABOVE);
  }

  setAbove(directory: DirectoryId, above: number): void {
    this.#directories.set(directory, ABOVE, above);
  }

  /** Names of directories are not larger than this. */
  get directoryCount(): number {
    return this.#directories.count;
  }

  #newPlace(inode: InodeId): PlaceId {
    const place = this.#places.add() as PlaceId; // Here places get their names.
    this.#places.set(place, INODE, inode);
    return place;
  }

  #append(directory: DirectoryId, place: PlaceId): void {
    const last = this.#directories.get(directory, LAST);
    if (last === 0) this.#directories.set(directory, FIRST, place);
    else this.#places.set(last, NEXT, place);
    this.#directories.set(directory, LAST, place);
    this.#places.set(place, DIRECTORY, directory);
    this.#places.set(place, NEXT, 0);
    this.#chain(place, this.#bucket(directory, this.name(place)));
  }

  #chain(place: number, bucket: number): void {
    this.#places.set(place, CHAIN, this.#heads[bucket] ?? 0);
    this.#heads[bucket] = place;
  }

  /** Takes a place out of its chain: it is found no more. */
  #unchain(place: PlaceId): void {
    const parent = this.parent(place);
    if (parent === undefined) return;
    const bucket = this.#bucket(parent, this.name(place));
    const next = this.#places.get(place, CHAIN);
    let at = this.#heads[bucket] ?? 0;
    if (at === place) this.#heads[bucket] = next;
    while (at !== 0 && at !== place) {
      const after = this.#places.get(at, CHAIN);
      if (after === place) this.#places.set(at, CHAIN, next);
      at = after;
    }
    this.#places.set(place, DIRECTORY, 0);
  }

  #rehash(): void {
    this.#heads = new Uint32Array(2 * this.#heads.length);
    for (let place = 1; place <= this.#places.count; place++) {
      const directory = this.#places.get(place, DIRECTORY);
      if (directory === 0) continue;
      const length = this.#places.get(place, LENGTH_AND_MARKS) & 0xff;
      const name = this.#names.text(this.#places.get(place, NAME), length);
      this.#chain(place, this.#bucket(directory, name));
    }
  }

  #bucket(directory: number, name: string): number {
    let hash = this.#seed ^ Math.imul(directory, 0x9e37_79b1);
    for (let i = 0; i < name.length; i++) {
      hash = Math.imul(hash ^ name.charCodeAt(i), 0x85eb_ca6b);
      hash ^= hash >>> 15;
    }
    return hash & (this.#heads.length - 1);
  }
}

function optionalPlace(place: number): PlaceId | undefined {
  return place === 0 ? undefined : (place as PlaceId); // Lists are made of places.
}

/** Inodes in the order of their numbers. */
export interface NumberedTree {
  readonly tree: FileTree;
  /** Every inode but the root, from number `first` on. */
  readonly inodes: readonly InodeId[];
  /** Every directory, the root first. */
  readonly directories: readonly DirectoryId[];
}

/**
 * Numbers the inodes below `root`, `rootNumber` being the root's own, breadth first: a directory's files are
 * neighbours in the inode table. Counts links on the way.
 */
export function numberInodes(
  tree: FileTree,
  root: PlaceId,
  numbers: { readonly root: number; readonly first: number },
): NumberedTree {
  const { inodes: table } = tree;
  const inodes: InodeId[] = [];
  const directories: DirectoryId[] = [];
  const enter = (place: PlaceId, directory: DirectoryId) => {
    const inode = tree.inode(place);
    table.setLinks(inode, 2);
    table.setBlock(inode, directory);
    directories.push(directory);
  };
  table.setNumber(tree.inode(root), numbers.root);
  const top = tree.directory(root);
  if (top !== undefined) enter(root, top);
  // What is found is appended: this is the queue.
  for (const directory of directories) {
    const self = tree.inode(tree.place(directory));
    for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
      const inode = tree.inode(place);
      if (table.number(inode) === 0) {
        table.setNumber(inode, numbers.first + inodes.length);
        inodes.push(inode);
      }
      const below = tree.directory(place);
      if (below === undefined) {
        table.setLinks(inode, table.links(inode) + 1);
      } else {
        table.setLinks(self, table.links(self) + 1);
        enter(place, below);
      }
    }
  }
  return { tree, inodes, directories };
}

/** The first place that leads to `inode`. */
export function findPlace({ tree, directories }: NumberedTree, inode: InodeId): PlaceId | undefined {
  for (const directory of directories) {
    for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
      if (tree.inode(place) === inode) return place;
    }
  }
  return undefined;
}
