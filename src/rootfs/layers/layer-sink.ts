import type { FirectlError } from "../../core/errors.ts";
import { layerError } from "../../tar/layer-error.ts";
import type { TarEntry, TarSink } from "../../tar/reader.ts";
import { type Inode, isDirectory } from "../ext4/tree.ts";
import { inodeOf } from "./entry-inode.ts";
import { cleanPath } from "./entry-path.ts";
import type { FileData } from "./file-data.ts";
import type { LinkResolver } from "./hard-links.ts";
import { aboveOf, HIDDEN, impliedDirectory, type LayerNode, type StepBudget, walk } from "./layer-tree.ts";
import { isAufsDirectory, parseWhiteout } from "./whiteout.ts";

const PATHS_TOO_LONG = "the image's paths take too many steps to follow";

/** What a layer's sink needs of the whole merge. */
export interface LayerContext {
  readonly data: FileData;
  readonly links: LinkResolver;
  readonly written: Inode[];
  readonly budget: StepBudget;
  readonly countEntry: (entry: TarEntry) => void;
  readonly countImplied: (entry: TarEntry) => void;
  readonly merge: (root: LayerNode) => void;
}

/** Takes one layer's entries. */
export class LayerSink implements TarSink {
  readonly #layer: string;
  readonly #context: LayerContext;
  readonly #root: LayerNode;
  /** Directories by the path that entries give for them. */
  #directories = new Map<string, LayerNode>();
  /** Where AUFS's own directories hang. */
  readonly #aufs: Array<{ readonly parent: LayerNode; readonly name: string }> = [];
  #ordinal = -1;

  constructor(layer: string, above: LayerNode | undefined, context: LayerContext) {
    this.#layer = layer;
    this.#context = context;
    this.#root = impliedDirectory(above);
    this.#context.links.beginLayer(layer);
  }

  entry(entry: TarEntry): boolean {
    this.#ordinal++;
    this.#context.countEntry(entry);
    const path = this.#clean(entry.path, entry);
    if (path === "") {
      if (entry.type !== "directory") throw this.#error(entry, "the image's root is not a directory");
      this.#root.inode = inodeOf(entry, this.#layer);
      this.#root.implied = false;
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
        parent.opaque = true;
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

  /**
   * Ends the layer. Returns the entries, by their place in the layer, whose data was passed over because they
   * are hidden, but which a visible hard link turned out to need: the layer is to be read again for them.
   */
  finish(): ReadonlyMap<number, Inode> {
    const needed = this.#context.links.endLayer(this.#root);
    for (const { parent, name } of this.#aufs) parent.children?.delete(name);
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

  /** The directory at `path`, made if it is missing; symlinks on the way lead to where they do in this layer. */
  #directory(path: string, entry: TarEntry): LayerNode {
    if (path === "") return this.#root;
    const known = this.#directories.get(path);
    if (known !== undefined) return known;
    const found = walk(this.#root, path, {
      followLast: true,
      budget: this.#context.budget,
      enter: (parent, name) => {
        this.#context.countImplied(entry);
        const aufs = isAufsDirectory(name);
        const made = impliedDirectory(aufs ? HIDDEN : aboveOf(parent, name));
        if (aufs) this.#aufs.push({ parent, name });
        if (parent.children?.get(name)?.whiteout === true) made.opaque = true;
        parent.children?.set(name, made);
        return made;
      },
    });
    if (found.kind === "loop") throw this.#error(entry, "symlinks on the way to it form a loop");
    if (found.kind === "exhausted") throw this.#error(entry, PATHS_TOO_LONG);
    if (found.kind !== "node" || found.node.children === undefined) {
      throw this.#error(entry, "it lies below something that is not a directory");
    }
    this.#directories.set(path, found.node);
    return found.node;
  }

  #hideBelow(parent: LayerNode, name: string): void {
    const own = parent.children?.get(name);
    if (own === undefined) {
      const node = impliedDirectory(undefined);
      parent.children?.set(name, { ...node, children: undefined, whiteout: true, implied: false });
    } else {
      // A file of this layer hides what is below as it is; the mark matters if a directory takes its place.
      own.opaque = true;
    }
  }

  #place(parent: LayerNode, name: string, entry: TarEntry): boolean {
    const above = aboveOf(parent, name);
    if (entry.type === "directory") {
      this.#placeDirectory(parent, name, entry);
      return false;
    }
    if (entry.type === "link") {
      this.#placeLink(parent, name, entry);
      return false;
    }
    const inode = inodeOf(entry, this.#layer);
    this.#replace(parent, name, inode);
    if (entry.type !== "file" || inode.size === 0) return false;
    if (above !== undefined) {
      this.#context.links.passedOver(inode, this.#ordinal);
      return false;
    }
    this.#context.written.push(inode);
    this.#context.data.begin(inode, entry.sparse);
    return true;
  }

  #placeDirectory(parent: LayerNode, name: string, entry: TarEntry): void {
    const inode = inodeOf(entry, this.#layer);
    const own = parent.children?.get(name);
    if (own?.children !== undefined) {
      own.inode = inode;
      own.implied = false;
      return;
    }
    // A symlink may have been the way to other directories.
    if (own !== undefined) this.#directories.clear();
    const opaque = own !== undefined && (own.whiteout || own.opaque);
    const above = aboveOf(parent, name);
    parent.children?.set(name, { ...impliedDirectory(above), inode, implied: false, opaque });
  }

  #placeLink(parent: LayerNode, name: string, entry: TarEntry): void {
    const target = this.#clean(entry.linkPath, entry);
    const found = walk(this.#root, target, { followLast: false, budget: this.#context.budget });
    switch (found.kind) {
      case "node": {
        if (isDirectory(found.node.inode)) throw this.#error(entry, "a hard link to a directory");
        const { inode } = found.node;
        if (parent.children?.get(name)?.inode === inode) return;
        const node = this.#replace(parent, name, inode);
        this.#context.links.linked(node, aboveOf(parent, name) === undefined);
        return;
      }
      case "nothing": {
        const node = this.#replace(parent, name, inodeOf(entry, this.#layer));
        this.#context.links.pending(node, {
          target,
          entry: entry.path,
          visible: aboveOf(parent, name) === undefined,
        });
        return;
      }
      case "exhausted":
        throw this.#error(entry, PATHS_TOO_LONG);
      case "cut-off":
      case "loop":
        throw this.#error(entry, "a hard link to a file that does not exist");
    }
  }

  /** Puts something that is not a directory at `name`, in place of whatever this layer had there. */
  #replace(parent: LayerNode, name: string, inode: Inode): LayerNode {
    const own = parent.children?.get(name);
    if (own !== undefined && !own.whiteout) this.#directories.clear();
    const node: LayerNode = {
      inode,
      children: undefined,
      whiteout: false,
      opaque: own !== undefined && (own.whiteout || own.opaque),
      implied: false,
      above: undefined,
    };
    parent.children?.set(name, node);
    return node;
  }
}
