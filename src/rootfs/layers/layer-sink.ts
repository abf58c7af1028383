import type { FirectlError } from "../../core/errors.ts";
import { layerError } from "../../tar/layer-error.ts";
import type { TarEntry, TarSink } from "../../tar/reader.ts";
import type { InodeId } from "../ext4/inodes.ts";
import type { DirectoryId, FileTree, PlaceId } from "../ext4/tree.ts";
import { addInode } from "./entry-inode.ts";
import { cleanPath } from "./entry-path.ts";
import type { FileData } from "./file-data.ts";
import type { LinkResolver } from "./hard-links.ts";
import {
  type Above,
  aboveOf,
  HIDDEN,
  hasMark,
  IMPLIED,
  impliedInode,
  mark,
  marksOfLayer,
  NOTHING,
  OPAQUE,
  type StepBudget,
  unmark,
  WHITEOUT,
  walk,
} from "./layer-tree.ts";
import { isAufsDirectory, parseWhiteout } from "./whiteout.ts";

const PATHS_TOO_LONG = "the image's paths take too many steps to follow";

/** What a layer's sink needs of the whole merge. */
export interface LayerContext {
  readonly tree: FileTree;
  /** Layers counted from the top, this one included. */
  readonly depth: number;
  readonly data: FileData;
  readonly links: LinkResolver;
  readonly written: InodeId[];
  readonly budget: StepBudget;
  readonly countEntry: (entry: TarEntry) => void;
  readonly aclPassedOver: (entryPath: string, problem: string) => void;
  readonly countImplied: (entry: TarEntry) => void;
  readonly merge: (root: PlaceId) => void;
}

/** Takes one layer's entries. */
export class LayerSink implements TarSink {
  readonly #layer: string;
  readonly #context: LayerContext;
  readonly #tree: FileTree;
  readonly #root: PlaceId;
  /** The directory that the last entry lay in, and the path that the entry gave for it: most follow one another. */
  #last: { readonly path: string; readonly directory: DirectoryId } | undefined;
  /** AUFS's own directories, and where they hang. */
  readonly #aufs: Array<{ readonly parent: DirectoryId; readonly place: PlaceId }> = [];
  #ordinal = -1;

  /** @param above The root of the merged layers above. */
  constructor(layer: string, above: PlaceId | undefined, context: LayerContext) {
    const { tree } = context;
    this.#layer = layer;
    this.#context = context;
    this.#tree = tree;
    this.#root = tree.addRoot(impliedInode(tree));
    mark(tree, this.#root, IMPLIED | marksOfLayer(context.depth));
    const root = tree.directory(this.#root);
    if (above !== undefined && root !== undefined) tree.setAbove(root, tree.directory(above) ?? NOTHING);
    context.links.beginLayer(layer);
  }

  entry(entry: TarEntry): boolean {
    this.#ordinal++;
    this.#context.countEntry(entry);
    const path = this.#clean(entry.path, entry);
    if (path === "") {
      if (entry.type !== "directory") throw this.#error(entry, "the image's root is not a directory");
      this.#tree.setInode(this.#root, this.#inode(entry));
      unmark(this.#tree, this.#root, IMPLIED);
      return false;
    }
    const slash = path.lastIndexOf("/");
    const parent = this.#directory(slash < 0 ? "" : path.slice(0, slash), entry);
    const name = path.slice(slash + 1);
    const whiteout = parseWhiteout(name);
    switch (whiteout?.kind) {
      case "none":
        return this.#place(parent, name, entry);
      case "opaque":
        mark(this.#tree, this.#tree.place(parent), OPAQUE);
        return false;
      case "remove":
        this.#hideBelow(parent, whiteout.name);
        return false;
      case "ignored":
        return false;
      case undefined:
        throw this.#error(entry, "a whiteout of nothing");
    }
  }

  data(bytes: Buffer): void {
    this.#context.data.write(bytes);
  }

  end(): void {
    this.#context.data.end();
  }

  aclPassedOver(entryPath: string, problem: string): void {
    this.#context.aclPassedOver(entryPath, problem);
  }

  /**
   * Ends the layer. Returns the entries, by their place in the layer, whose data was passed over because they
   * are hidden, but which a visible hard link turned out to need: the layer is to be read again for them.
   */
  finish(): ReadonlyMap<number, InodeId> {
    const needed = this.#context.links.endLayer(this.#root);
    for (const { parent, place } of this.#aufs) this.#tree.filter(parent, (each) => each !== place);
    this.#context.merge(this.#root);
    return needed;
  }

  #error(entry: TarEntry, problem: string): FirectlError {
    return layerError(this.#layer, entry.path, problem);
  }

  #clean(raw: string, entry: TarEntry): string {
    const clean = cleanPath(raw);
    if (clean.path === undefined) throw this.#error(entry, clean.problem);
    return clean.path;
  }

  #inode(entry: TarEntry): InodeId {
    return addInode(this.#tree.inodes, entry, this.#layer);
  }

  /** The directory at `path`, made if it is missing; symlinks on the way lead to where they do in this layer. */
  #directory(path: string, entry: TarEntry): DirectoryId {
    if (this.#last?.path === path) return this.#last.directory;
    const found = walk(this.#tree, this.#root, {
      path,
      followLast: true,
      budget: this.#context.budget,
      enter: (parent, name) => this.#imply(parent, name, entry),
    });
    if (found.kind === "loop") {
      throw this.#error(entry, "symlinks on the way to it form a loop, or a path too long");
    }
    if (found.kind === "exhausted") throw this.#error(entry, PATHS_TOO_LONG);
    const directory = found.kind === "place" ? this.#tree.directory(found.place) : undefined;
    if (directory === undefined) {
      throw this.#error(entry, "it lies below something that is not a directory");
    }
    this.#last = { path, directory };
    return directory;
  }

  /** Makes a directory that no entry describes. */
  #imply(parent: DirectoryId, name: string, entry: TarEntry): PlaceId {
    this.#context.countImplied(entry);
    const aufs = isAufsDirectory(name);
    const above = aufs ? HIDDEN : aboveOf(this.#tree, parent, name);
    const place = this.#put(parent, name, impliedInode(this.#tree));
    this.#makeDirectory(place, above);
    mark(this.#tree, place, IMPLIED);
    if (aufs) this.#aufs.push({ parent, place });
    return place;
  }

  #makeDirectory(place: PlaceId, above: Above): void {
    this.#tree.setAbove(this.#tree.makeDirectory(place), above);
  }

  #hideBelow(parent: DirectoryId, name: string): void {
    const own = this.#tree.find(parent, name);
    // A file of this layer hides what is below as it is; the mark matters if a directory takes its place.
    if (own !== undefined) mark(this.#tree, own, OPAQUE);
    // Nobody looks at a whiteout's inode.
    else mark(this.#tree, this.#put(parent, name, this.#tree.inode(this.#root)), WHITEOUT);
  }

  #place(parent: DirectoryId, name: string, entry: TarEntry): boolean {
    if (entry.type === "directory") {
      this.#placeDirectory(parent, name, entry);
      return false;
    }
    const hidden = aboveOf(this.#tree, parent, name) !== NOTHING;
    if (entry.type === "link") {
      this.#placeLink(entry, { parent, name, visible: !hidden });
      return false;
    }
    const inode = this.#inode(entry);
    this.#put(parent, name, inode);
    if (entry.type !== "file" || entry.size === 0) return false;
    if (hidden) {
      this.#context.links.passedOver(inode, this.#ordinal);
      return false;
    }
    this.#context.written.push(inode);
    this.#context.data.begin(inode, entry.sparse);
    return true;
  }

  #placeDirectory(parent: DirectoryId, name: string, entry: TarEntry): void {
    const inode = this.#inode(entry);
    const own = this.#tree.find(parent, name);
    if (own !== undefined && this.#tree.directory(own) !== undefined) {
      this.#tree.setInode(own, inode);
      unmark(this.#tree, own, IMPLIED);
      return;
    }
    const above = aboveOf(this.#tree, parent, name);
    this.#makeDirectory(this.#put(parent, name, inode), above);
  }

  #placeLink(entry: TarEntry, at: { parent: DirectoryId; name: string; visible: boolean }): void {
    const { parent, name, visible } = at;
    const target = this.#clean(entry.linkPath, entry);
    const found = walk(this.#tree, this.#root, {
      path: target,
      followLast: false,
      budget: this.#context.budget,
    });
    switch (found.kind) {
      case "place": {
        if (this.#tree.directory(found.place) !== undefined) {
          throw this.#error(entry, "a hard link to a directory");
        }
        const own = this.#tree.find(parent, name);
        const inode = this.#tree.inode(found.place);
        if (own !== undefined && this.#tree.inode(own) === inode) return;
        this.#context.links.linked(this.#put(parent, name, inode), visible);
        return;
      }
      case "nothing": {
        const place = this.#put(parent, name, this.#inode(entry));
        this.#context.links.pending(place, { target, entry: entry.path, visible });
        return;
      }
      case "exhausted":
        throw this.#error(entry, PATHS_TOO_LONG);
      case "cut-off":
      case "loop":
        throw this.#error(entry, "a hard link to a file that does not exist");
    }
  }

  /** Puts something at `name`, in place of whatever this layer had there. */
  #put(parent: DirectoryId, name: string, inode: InodeId): PlaceId {
    const tree = this.#tree;
    const layer = marksOfLayer(this.#context.depth);
    const own = tree.find(parent, name);
    if (own === undefined) {
      const place = tree.add(parent, name, inode);
      mark(tree, place, layer);
      return place;
    }
    // A directory, or a symlink, may have been the way to other directories.
    this.#last = undefined;
    const opaque = hasMark(tree, own, WHITEOUT | OPAQUE);
    tree.unmakeDirectory(own);
    tree.setInode(own, inode);
    tree.setMarks(own, layer | (opaque ? OPAQUE : 0));
    return own;
  }
}
