import type { TarEntry, TarSink } from "../../tar/reader.ts";
import type { InodeId } from "../ext4/inodes.ts";
import type { DirectoryId, FileTree, PlaceId } from "../ext4/tree.ts";
import { XattrError } from "../ext4/xattr.ts";
import { newInode, problemOf } from "../layers/entry-inode.ts";
import { cleanPath } from "../layers/entry-path.ts";
import type { FileData } from "../layers/file-data.ts";

/** What all snapshots on a disk have in common. */
export interface SnapshotTarget {
  readonly tree: FileTree;
  readonly data: FileData;
  /** The disk's root. */
  readonly root: DirectoryId;
  /** Counts an entry against the limits. */
  readonly count: (entry: TarEntry) => void;
}

/**
 * Takes the tar of one directory, or of a single file, below a name of the disk's root. Nothing in it has a
 * meaning beyond itself: names that mark something in an image's layers are names.
 */
export class SnapshotSink implements TarSink {
  readonly #name: string;
  readonly #isDirectory: boolean;
  readonly #target: SnapshotTarget;
  readonly #fail: (entry: string | undefined, problem: string) => Error;
  #top: PlaceId | undefined;
  /** The directory that the last entry lay in: most follow one another. */
  #last: { readonly path: string; readonly directory: DirectoryId } | undefined;

  constructor(
    snapshot: { readonly name: string; readonly isDirectory: boolean },
    target: SnapshotTarget,
    fail: (entry: string | undefined, problem: string) => Error,
  ) {
    this.#name = snapshot.name;
    this.#isDirectory = snapshot.isDirectory;
    this.#target = target;
    this.#fail = fail;
  }

  entry(entry: TarEntry): boolean {
    this.#target.count(entry);
    const { tree } = this.#target;
    const path = this.#clean(entry.path, entry);
    const inode = entry.type === "link" ? this.#linked(entry) : this.#inode(entry);
    if (!this.#isDirectory || path === "") {
      if (entry.type !== (this.#isDirectory ? "directory" : "file") || this.#top !== undefined) {
        throw this.#fail(entry.path, "it has become something else");
      }
      this.#top = tree.add(this.#target.root, this.#name, inode);
      if (this.#isDirectory) tree.makeDirectory(this.#top);
    } else {
      const slash = path.lastIndexOf("/");
      const parent = this.#directory(slash < 0 ? "" : path.slice(0, slash), entry);
      const name = path.slice(slash + 1);
      if (tree.find(parent, name) !== undefined) throw this.#fail(entry.path, "it comes twice");
      const place = tree.add(parent, name, inode);
      if (entry.type === "directory") tree.makeDirectory(place);
    }
    if (entry.type !== "file" || entry.size === 0) return false;
    this.#target.data.begin(inode, entry.sparse);
    return true;
  }

  data(bytes: Buffer): void {
    this.#target.data.write(bytes);
  }

  end(): void {
    this.#target.data.end();
  }

  /** Whether anything came at all. */
  get isEmpty(): boolean {
    return this.#top === undefined;
  }

  #clean(raw: string, entry: TarEntry): string {
    const clean = cleanPath(raw);
    if (clean.path === undefined) throw this.#fail(entry.path, clean.problem);
    return clean.path;
  }

  #inode(entry: TarEntry): InodeId {
    const problem = problemOf(entry);
    if (problem !== undefined) throw this.#fail(entry.path, problem);
    try {
      return this.#target.tree.inodes.add(newInode(entry));
    } catch (error) {
      if (error instanceof XattrError) throw this.#fail(entry.path, error.message);
      throw error;
    }
  }

  /** The inode of an earlier name of the same file. */
  #linked(entry: TarEntry): InodeId {
    const { tree } = this.#target;
    const place = this.#find(this.#clean(entry.linkPath, entry));
    if (place === undefined || tree.directory(place) !== undefined) {
      throw this.#fail(entry.path, "a hard link to a file that is not there");
    }
    return tree.inode(place);
  }

  #directory(path: string, entry: TarEntry): DirectoryId {
    if (this.#last?.path === path) return this.#last.directory;
    const place = this.#find(path);
    const directory = place === undefined ? undefined : this.#target.tree.directory(place);
    if (directory === undefined) throw this.#fail(entry.path, "its directory is not there");
    this.#last = { path, directory };
    return directory;
  }

  #find(path: string): PlaceId | undefined {
    const { tree } = this.#target;
    let place = this.#top;
    for (const name of path === "" ? [] : path.split("/")) {
      const directory = place === undefined ? undefined : tree.directory(place);
      place = directory === undefined ? undefined : tree.find(directory, name);
    }
    return place;
  }
}
