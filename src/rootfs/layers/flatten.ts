import { FirectlError } from "../../core/errors.ts";
import {
  BLOCK_SIZE,
  MAX_FILE_BYTES,
  MAX_MAJOR,
  MAX_MINOR,
  MAX_TIME,
  MIN_TIME,
  MODE_BLOCK_DEVICE,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_FIFO,
  MODE_FILE,
  MODE_SYMLINK,
} from "../ext4/format.ts";
import { type Inode, isDirectory, type Run } from "../ext4/tree.ts";
import { encodeXattrs, XattrError } from "../ext4/xattr.ts";
import { layerError } from "../layer-error.ts";
import { type RootfsLimits, STEPS_PER_ENTRY } from "../limits.ts";
import type { EntryType, TarEntry, TarSink } from "../tar/reader.ts";
import { cleanPath } from "./entry-path.ts";
import type { FileData } from "./file-data.ts";
import { LinkResolver } from "./hard-links.ts";
import {
  aboveOf,
  dropWhiteouts,
  HIDDEN,
  impliedDirectory,
  type LayerNode,
  mergeBelow,
  type StepBudget,
  walk,
} from "./layer-tree.ts";
import { isAufsDirectory, parseWhiteout } from "./whiteout.ts";

const TYPE_MODES: Readonly<Record<EntryType, number>> = {
  file: MODE_FILE,
  link: MODE_FILE,
  directory: MODE_DIRECTORY,
  symlink: MODE_SYMLINK,
  "character-device": MODE_CHARACTER_DEVICE,
  "block-device": MODE_BLOCK_DEVICE,
  fifo: MODE_FIFO,
};

/** Longest symlink target: PATH_MAX less its NUL. */
const MAX_TARGET_BYTES = 4095;

const PATHS_TOO_LONG = "the image's paths take too many steps to follow";

/**
 * Merges layers, the topmost first, so that the data of what a lower layer would only lose is never written.
 * The result is what overlaying the layers gives, each first unpacked on its own: see layer-tree.ts.
 */
export class Flattener {
  readonly #data: FileData;
  readonly #limits: RootfsLimits;
  readonly #links: LinkResolver;
  /** Inodes whose data is in the image, in the order of their blocks. */
  readonly #written: Inode[] = [];
  #merged: LayerNode | undefined;
  #entries = 0;
  #metadataBytes = 0;
  readonly #budget: StepBudget;

  constructor(data: FileData, limits: RootfsLimits) {
    this.#data = data;
    this.#limits = limits;
    this.#budget = { left: STEPS_PER_ENTRY * limits.maxEntries };
    this.#links = new LinkResolver(this.#budget);
  }

  /**
   * Begins the next lower layer: its entries go to the sink, then {@link LayerSink.finish} is to be called.
   */
  layer(name: string): LayerSink {
    return new LayerSink(name, this.#merged, {
      data: this.#data,
      links: this.#links,
      written: this.#written,
      budget: this.#budget,
      countEntry: (entry) => this.#countEntry(name, entry),
      countImplied: (entry) => this.#countImplied(name, entry),
      merge: (root) => {
        if (this.#merged === undefined) this.#merged = root;
        else mergeBelow(this.#merged, root);
      },
    });
  }

  /** Notes that the data of `inode`, passed over at first, is in the image now. */
  rescued(inode: Inode): void {
    this.#written.push(inode);
  }

  /** The merged tree, once the lowest layer is in. */
  finish(): LayerNode {
    this.#links.finish();
    const root = this.#merged ?? impliedDirectory(undefined);
    dropWhiteouts(root);
    return root;
  }

  /**
   * Data blocks that no file of the tree uses: those of entries that came twice in their layer. The tree's inodes
   * must have been numbered.
   */
  unusedRuns(): Run[] {
    const runs: Run[] = [];
    for (const inode of this.#written) {
      if (inode.number !== 0) continue;
      for (const run of inode.runs ?? [plainRun(inode)]) runs.push(run);
    }
    return runs;
  }

  #countEntry(layer: string, entry: TarEntry): void {
    this.#entries += 1 + (entry.sparse?.length ?? 0);
    this.#metadataBytes += entry.path.length + entry.linkPath.length;
    for (const { name, value } of entry.xattrs ?? []) this.#metadataBytes += name.length + value.length;
    const { maxEntries, maxMetadataBytes } = this.#limits;
    if (this.#entries > maxEntries) throw limitError(layer, entry, `more than ${maxEntries} entries`);
    if (this.#metadataBytes > maxMetadataBytes) {
      throw limitError(layer, entry, `more than ${maxMetadataBytes} bytes of names and attributes`);
    }
  }

  /** A directory that no entry describes takes as much memory as one that has an entry. */
  #countImplied(layer: string, entry: TarEntry): void {
    this.#entries++;
    const { maxEntries } = this.#limits;
    if (this.#entries > maxEntries) throw limitError(layer, entry, `more than ${maxEntries} entries`);
  }
}

function limitError(layer: string, entry: TarEntry, problem: string): FirectlError {
  const error = layerError(layer, entry.path, `the image has ${problem}`);
  return new FirectlError("LAYER_INVALID", error.message, { hint: "raise the limit if you trust the image" });
}

function plainRun(inode: Inode): Run {
  return { logical: 0, physical: inode.block, length: Math.ceil(inode.size / BLOCK_SIZE) };
}

/** What a layer's sink needs of the {@link Flattener}. */
interface LayerContext {
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
      this.#root.inode = this.#inode(entry);
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
    const inode = this.#inode(entry);
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
    const inode = this.#inode(entry);
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
        const node = this.#replace(parent, name, this.#inode(entry));
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

  #inode(entry: TarEntry): Inode {
    this.#check(entry);
    return {
      mode: TYPE_MODES[entry.type] | entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      atimeSec: clampTime(entry.atimeSec),
      atimeNsec: entry.atimeNsec,
      mtimeSec: clampTime(entry.mtimeSec),
      mtimeNsec: entry.mtimeNsec,
      target: entry.type === "symlink" ? entry.linkPath : "",
      devMajor: entry.devMajor,
      devMinor: entry.devMinor,
      xattrs: entry.xattrs,
      size: entry.size,
      block: 0,
      runs: undefined,
      number: 0,
      links: 0,
    };
  }

  /** Refuses what ext4 or the kernel cannot hold. */
  #check(entry: TarEntry): void {
    if (!isId(entry.uid) || !isId(entry.gid)) throw this.#error(entry, `owner ${entry.uid}:${entry.gid}`);
    if (entry.size > MAX_FILE_BYTES) {
      throw this.#error(entry, `a file of ${entry.size} bytes, at most ${MAX_FILE_BYTES}`);
    }
    if (entry.type === "symlink") {
      const length = entry.linkPath.length;
      if (length === 0) throw this.#error(entry, "a symlink without a target");
      if (length > MAX_TARGET_BYTES) {
        throw this.#error(entry, `a symlink target of ${length} bytes, at most ${MAX_TARGET_BYTES}`);
      }
    }
    if (!inRange(entry.devMajor, MAX_MAJOR) || !inRange(entry.devMinor, MAX_MINOR)) {
      throw this.#error(entry, `device ${entry.devMajor}:${entry.devMinor}`);
    }
    if (entry.xattrs === undefined) return;
    try {
      encodeXattrs(entry.xattrs);
    } catch (error) {
      throw error instanceof XattrError ? this.#error(entry, error.message) : error;
    }
  }
}

function isId(id: number): boolean {
  // 2^32 - 1 is the kernel's "no id".
  return inRange(id, 2 ** 32 - 2);
}

function inRange(value: number, max: number): boolean {
  return value >= 0 && value <= max;
}

function clampTime(sec: number): number {
  return Math.min(Math.max(sec, MIN_TIME), MAX_TIME);
}
