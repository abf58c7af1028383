import { FirectlError } from "../../core/errors.ts";
import type { Xattr } from "../../tar/pax.ts";
import type { TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { mapFile } from "../ext4-reader/contents.ts";
import { readInode, TYPE_FILE, TYPE_SOCKET, typeOf } from "../ext4-reader/inode.ts";
import { ROOT_INODE } from "../ext4-reader/superblock.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import { xattrsOf } from "../ext4-reader/xattrs.ts";
import { contentOf, linkTo } from "./content.ts";
import { LowerLookup } from "./lower-lookup.ts";
import { NameLookup } from "./name-lookup.ts";
import { isMetacopy, isOpaque, redirectOf, visibleXattrs } from "./overlay-xattrs.ts";
import { isDirectory, isWhiteout, namesIn, type Place } from "./place.ts";
import { ShownInodes } from "./shown-inodes.ts";
import { WalkBudget } from "./walk-budget.ts";

/** One filesystem, or the upper directory of one over another as overlayfs shows them. */
export type RootView =
  | { readonly kind: "plain"; readonly volume: Volume }
  | { readonly kind: "overlay"; readonly lower: Volume; readonly upper: Volume; readonly upperPath: string };

/** Longest path that is exported, in bytes: a directory can be nested deeper than any path can name. */
const MAX_PATH_BYTES = 65_536;

/** Most names of directories that are gone through at a time: some 200 bytes of memory each. */
const MAX_NAMES_HELD = 4_000_000;

/** A directory of the view: in one layer or merged of both. */
interface Directory {
  readonly path: string;
  readonly upper: Place | undefined;
  readonly lower: Place | undefined;
}

/** A name in a directory and the inodes it has in the layers. */
interface Name {
  readonly name: string;
  readonly upper: number | undefined;
  readonly lower: number | undefined;
}

/**
 * Everything below the root of a view, depth first, names in the order of their bytes: the same view gives the same
 * entries. Sockets are left out, a tar has no room for them. What is in memory at a time is the directories on the
 * way to an entry, a bit for each inode and a path for each with several links.
 * @throws FirectlError DISK_INVALID naming disk and inode: whatever the guest wrote, it ends.
 */
export function* walkView(view: RootView): Generator<TarContent, void> {
  yield* new Walk(view).entries();
}

/** What a path in a view names. */
export interface Named {
  /** What it is, the path empty; without a file's data. */
  readonly entry: TarEntry;
  /** It, and everything below it, the paths relative to it. As {@link walkView}. */
  contents(): Generator<TarContent, void>;
}

/**
 * Looks up an absolute path, and yields after each name for whoever has other work too: the guest's links may make
 * it long. Links on the way are followed within the view, the last one if `follow` is set.
 * @throws FirectlError FILE_NOT_FOUND, also for what no path leads through; DISK_INVALID.
 */
export function* findInView(view: RootView, path: string, follow: boolean): Generator<void, Named> {
  // Another walk than that of the contents: what looking up takes is not of their budget.
  const found = yield* new Walk(view).find(path, follow);
  return { entry: found.entry, contents: () => new Walk(view).entriesFrom(found) };
}

/** Links that a path may lead through, as for the kernel. */
const MAX_LINKS = 40;
/** PATH_MAX, and for the targets of so many links. */
const MAX_STEPS = 4096 * MAX_LINKS;
/** Blocks of directories that looking up one path may read of any disk, and as many again as the disk has. */
const FREE_READS = 100_000;

/** What {@link Walk.find} has found, and where. */
interface Found {
  readonly entry: TarEntry;
  readonly directory: Directory | undefined;
  /** Undefined for the root. */
  readonly at: { readonly parent: Directory; readonly name: Name } | undefined;
}

/** What a walk knows of a layer. */
interface Layer {
  readonly shown: ShownInodes;
  readonly budget: WalkBudget;
  readonly lookup: NameLookup;
}

class Walk {
  readonly #view: RootView;
  readonly #lookup: LowerLookup | undefined;
  readonly #layers = new Map<Volume, Layer>();

  constructor(view: RootView) {
    this.#view = view;
    this.#lookup = view.kind === "overlay" ? new LowerLookup(view.lower) : undefined;
    for (const volume of view.kind === "plain" ? [view.volume] : [view.lower, view.upper]) {
      this.#layers.set(volume, {
        shown: new ShownInodes(volume),
        budget: new WalkBudget(volume),
        lookup: new NameLookup(volume, FREE_READS + volume.superblock.blocks),
      });
    }
  }

  *entries(): Generator<TarContent, void> {
    yield* this.#below(this.#root());
  }

  /** What was found, then everything below it. */
  *entriesFrom({ entry, directory, at }: Found): Generator<TarContent, void> {
    if (directory !== undefined) {
      yield { entry };
      yield* this.#below({ ...directory, path: "" });
    } else if (at !== undefined) {
      for (const content of this.#contents({ ...at.parent, path: "" }, at.name, { once: true })) {
        yield { ...content, entry: { ...content.entry, path: "" } };
      }
    }
  }

  /** Follows a path; the root has no entry of its own, and gets its directory's. */
  *find(path: string, follow: boolean): Generator<void, Found> {
    const root = this.#root();
    const way: Found[] = [{ entry: this.#rootEntry(root), directory: root, at: undefined }];
    const names = path.split("/");
    let links = 0;
    for (let step = 0; names.length > 0 && step < MAX_STEPS; step++) {
      const name = names.shift() ?? "";
      const here = way.at(-1)?.directory;
      if (here === undefined) throw notFound(path, "not a directory");
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (way.length > 1) way.pop();
        continue;
      }
      const found = this.#lookUp(here, name);
      yield;
      if (found === undefined) throw notFound(path, "no such file or directory");
      if (found.entry.type !== "symlink" || (names.length === 0 && !follow)) {
        way.push(found);
        continue;
      }
      if (++links > MAX_LINKS) throw notFound(path, "too many levels of symbolic links");
      if (found.entry.linkPath.startsWith("/")) way.splice(1);
      names.unshift(...found.entry.linkPath.split("/"));
    }
    const last = way.at(-1);
    if (last === undefined || names.length > 0) throw notFound(path, "the path is too long");
    return last;
  }

  #rootEntry(root: Directory): TarEntry {
    const place = root.upper ?? root.lower;
    if (place === undefined) throw new Error("the root is in no layer");
    return contentOf("", place, this.#visible(this.#xattrsOf(place)), undefined).entry;
  }

  #lookUp(parent: Directory, wanted: string): Found | undefined {
    const inodeIn = (place: Place | undefined) =>
      place === undefined ? undefined : this.#layerOf(place).lookup.inodeOf(place, wanted);
    const name = { name: wanted, upper: inodeIn(parent.upper), lower: inodeIn(parent.lower) };
    if (name.upper === undefined && name.lower === undefined) return undefined;
    const contents = this.#contents({ ...parent, path: "" }, name, { once: false });
    const first = contents.next();
    // Nothing for whiteouts and sockets.
    if (first.done === true) return undefined;
    const entry = { ...first.value.entry, path: "" };
    // The generator's last value is the directory, if it is one.
    const last = entry.type === "directory" ? contents.next() : undefined;
    return { entry, directory: last?.done === true ? last.value : undefined, at: { parent, name } };
  }

  *#below(first: Directory): Generator<TarContent, void> {
    const path: Array<{ readonly directory: Directory; readonly names: readonly Name[]; next: number }> = [];
    let held = 0;
    const enter = (directory: Directory) => {
      const names = this.#namesOf(directory, MAX_NAMES_HELD - held);
      held += names.length;
      path.push({ directory, names, next: 0 });
    };
    enter(first);
    for (let level = path.at(-1); level !== undefined; level = path.at(-1)) {
      const name = level.names[level.next++];
      if (name === undefined) {
        held -= level.names.length;
        path.pop();
        continue;
      }
      const next = yield* this.#contents(level.directory, name, { once: true });
      if (next !== undefined) enter(next);
    }
  }

  #root(): Directory {
    const view = this.#view;
    if (view.kind === "plain") {
      return { path: "", upper: rootOf(view.volume), lower: undefined };
    }
    const root = rootOf(view.upper);
    const number = this.#layerOf(root).lookup.inodeOf(root, view.upperPath);
    if (number === undefined) throw view.upper.invalid(`there is no directory ${view.upperPath}`);
    return { path: "", upper: placeOf(view.upper, number), lower: rootOf(view.lower) };
  }

  /** The names of a directory, at most `room`; it counts as shown from here on. */
  #namesOf({ upper, lower }: Directory, room: number): Name[] {
    const merged = new Map<string, Name>();
    const read = (place: Place | undefined) => {
      if (place === undefined) return new Map<string, number>();
      const { shown, budget } = this.#layerOf(place);
      shown.addDirectory(place.inode);
      const onBlocks = (count: number) => budget.takeBlocks(place.inode, count);
      return namesIn(place, { room: room - merged.size, onBlocks });
    };
    for (const [name, number] of read(upper)) merged.set(name, { name, upper: number, lower: undefined });
    for (const [name, number] of read(lower)) {
      merged.set(name, { name, upper: merged.get(name)?.upper, lower: number });
    }
    return [...merged.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * What a name stands for; returns the directory that is to be gone through next, if it is one. With `once` it
   * counts as shown, and is a link if it was shown under another name.
   */
  *#contents(
    parent: Directory,
    name: Name,
    { once }: { once: boolean },
  ): Generator<TarContent, Directory | undefined> {
    const path = parent.path === "" ? name.name : `${parent.path}/${name.name}`;
    const upper = name.upper === undefined ? undefined : placeOf(parent.upper?.volume, name.upper);
    const lower = name.lower === undefined ? undefined : placeOf(parent.lower?.volume, name.lower);
    const place = upper ?? lower;
    if (place === undefined) throw new Error(`${path} is in no layer`);
    const isOverlay = this.#view.kind === "overlay";
    if (isOverlay && isWhiteout(place)) return undefined;
    if (path.length > MAX_PATH_BYTES) {
      throw place.volume.invalid(`inode ${place.inode.number}: a path of ${path.length} bytes leads to it`);
    }
    if (place.inode.links === 0) {
      throw place.volume.invalid(`inode ${place.inode.number}: it was removed, yet a directory names it`);
    }
    if (typeOf(place.inode) === TYPE_SOCKET) return undefined;
    const first = once ? this.#firstPath(path, place) : undefined;
    if (first !== undefined) {
      yield linkTo(first, path, place);
      return undefined;
    }
    const xattrs = this.#xattrsOf(place);
    const visible = this.#visible(xattrs);
    if (isDirectory(place)) {
      yield contentOf(path, place, visible, undefined);
      if (upper === undefined) return { path, upper: undefined, lower };
      return { path, upper, lower: this.#lowerDirectory(parent, lower, xattrs) };
    }
    yield* this.#leaf(path, place, { visible, data: () => this.#dataOf(parent, place, lower, xattrs) });
    return undefined;
  }

  #visible(xattrs: readonly Xattr[]): readonly Xattr[] {
    return this.#view.kind === "overlay" ? visibleXattrs(xattrs) : xattrs;
  }

  #xattrsOf(place: Place): Xattr[] {
    const { budget } = this.#layerOf(place);
    return xattrsOf(place.volume, place.inode, (count) => budget.takeBytes(place.inode, count));
  }

  /** Counts a name. Returns the path under which the same inode was shown before. */
  #firstPath(path: string, place: Place): string | undefined {
    const { shown, budget } = this.#layerOf(place);
    budget.takeBytes(place.inode, path.length);
    if (isDirectory(place)) return undefined;
    const first = shown.addName(place.inode, path);
    if (first !== undefined) budget.takeBytes(place.inode, first.length);
    return first;
  }

  *#leaf(
    path: string,
    place: Place,
    { visible, data }: { visible: readonly Xattr[]; data: () => Place },
  ): Generator<TarContent, void> {
    if (typeOf(place.inode) !== TYPE_FILE) {
      yield contentOf(path, place, visible, undefined);
      return;
    }
    const source = data();
    const { budget } = this.#layerOf(source);
    const map = mapFile(source.volume, source.inode, (count) => budget.takeBlocks(source.inode, count));
    yield contentOf(path, place, visible, { volume: source.volume, map });
  }

  /** What of the lower layer is merged into an upper directory. */
  #lowerDirectory(
    parent: Directory,
    sameName: Place | undefined,
    xattrs: readonly Xattr[],
  ): Place | undefined {
    if (this.#view.kind === "plain" || isOpaque(xattrs)) return undefined;
    const found = this.#redirected(parent, sameName, xattrs);
    return found !== undefined && isDirectory(found) ? found : undefined;
  }

  /** Where an upper file's data is: in itself, unless only its metadata was copied up. */
  #dataOf(parent: Directory, place: Place, sameName: Place | undefined, xattrs: readonly Xattr[]): Place {
    const view = this.#view;
    if (view.kind === "plain" || place.volume !== view.upper || !isMetacopy(xattrs)) return place;
    const found = this.#redirected(parent, sameName, xattrs);
    if (found !== undefined && typeOf(found.inode) === TYPE_FILE) return found;
    throw place.volume.invalid(`inode ${place.inode.number}: the image has no file with its data`);
  }

  #redirected(parent: Directory, sameName: Place | undefined, xattrs: readonly Xattr[]): Place | undefined {
    const redirect = redirectOf(xattrs);
    if (redirect === undefined) return sameName === undefined || isWhiteout(sameName) ? undefined : sameName;
    if (redirect.startsWith("/")) return this.#lookup?.byPath(redirect);
    return parent.lower === undefined ? undefined : this.#lookup?.child(parent.lower, redirect);
  }

  #layerOf({ volume }: Place): Layer {
    const layer = this.#layers.get(volume);
    if (layer === undefined) throw new Error(`${volume.name} is no layer of the view`);
    return layer;
  }
}

function rootOf(volume: Volume): Place {
  const root = placeOf(volume, ROOT_INODE);
  if (!isDirectory(root)) throw volume.invalid(`inode ${ROOT_INODE}: the root is no directory`);
  return root;
}

function placeOf(volume: Volume | undefined, number: number): Place {
  if (volume === undefined) throw new Error(`inode ${number} is of a layer that its directory has not`);
  return { volume, inode: readInode(volume, number) };
}

function notFound(path: string, reason: string): FirectlError {
  const shown = Buffer.from(path, "latin1").toString("utf8");
  return new FirectlError("FILE_NOT_FOUND", `${shown === "" ? "/" : shown}: ${reason}`);
}
