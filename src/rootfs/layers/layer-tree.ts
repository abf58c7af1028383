import { type InodeId, newDirectory } from "../ext4/inodes.ts";
import type { DirectoryId, FileTree, PlaceId } from "../ext4/tree.ts";

/*
 * One layer unpacked on its own, the way overlay filesystems apply layers: its symlinks and hard links lead to
 * what the layer itself holds. Beside it the tree of the layers above, which says what of it will be seen. All are
 * roots of one FileTree, whose marks say
 */

/** Stands for a whiteout: nothing is here, and nothing of a lower layer shows. */
export const WHITEOUT = 1;
/** Lower layers add nothing to this directory. */
export const OPAQUE = 2;
/** Made only because something lies in it: takes its metadata from the next lower layer that has it. */
export const IMPLIED = 4;
/** Above these, which layer the place comes from, counted from the top. */
const LAYER_SHIFT = 8;
/** So many layers can be told apart. */
export const MAX_LAYERS = 65_535;

/** What the layers above have at a place: a directory, nothing, or something that hides what is there. */
export type Above = DirectoryId | typeof NOTHING | typeof HIDDEN;
/** Also what FileTree says of a directory for which nothing has been set. */
export const NOTHING = 0;
export const HIDDEN = 0xffff_ffff;

/** Most symlinks followed on the way to one entry, the kernel's own limit (MAXSYMLINKS). */
const MAX_SYMLINKS = 40;

export function hasMark(tree: FileTree, place: PlaceId, mark: number): boolean {
  return (tree.marks(place) & mark) !== 0;
}

export function mark(tree: FileTree, place: PlaceId, marks: number): void {
  tree.setMarks(place, tree.marks(place) | marks);
}

export function unmark(tree: FileTree, place: PlaceId, marks: number): void {
  tree.setMarks(place, tree.marks(place) & ~marks);
}

/** Marks that say nothing but that a place is of layer number `layer`. */
export function marksOfLayer(layer: number): number {
  return layer << LAYER_SHIFT;
}

/** The number of the layer that `place` comes from. */
export function layerOf(tree: FileTree, place: PlaceId): number {
  return tree.marks(place) >>> LAYER_SHIFT;
}

/** The inode of a directory that no entry has described yet. */
export function impliedInode(tree: FileTree): InodeId {
  return tree.inodes.add(newDirectory(0o755));
}

/** What the layers above the directory `parent` have at `name` in it. */
export function aboveOf(tree: FileTree, parent: DirectoryId, name: string): Above {
  const above = directoryAbove(tree, parent);
  if (above === NOTHING || above === HIDDEN) return above;
  const place = tree.find(above, name);
  if (place === undefined) return hasMark(tree, tree.place(above), OPAQUE) ? HIDDEN : NOTHING;
  return tree.directory(place) ?? HIDDEN;
}

function directoryAbove(tree: FileTree, directory: DirectoryId): Above {
  return tree.above(directory) as Above; // What whoever made the directory has set.
}

/** Where a walk through a layer ended. */
export type Found =
  | { readonly kind: "place"; readonly place: PlaceId }
  | { readonly kind: "nothing" }
  /** Nothing, and no lower layer can have anything there. */
  | { readonly kind: "cut-off" }
  | { readonly kind: "loop" }
  /** The budget of steps is used up. */
  | { readonly kind: "exhausted" };

/** How many parts of paths may still be looked up. */
export interface StepBudget {
  left: number;
}

/**
 * Walks from `root` along `path`, which is clean, following symlinks in every part but, unless `followLast`, the
 * last. Links never leave the root: `..` and absolute targets are taken inside it.
 * @param enter Called where a directory is missing; returns it made, or undefined to stop there.
 */
export function walk(
  tree: FileTree,
  root: PlaceId,
  options: {
    readonly path: string;
    readonly followLast: boolean;
    readonly budget: StepBudget;
    readonly enter?: (parent: DirectoryId, name: string) => PlaceId;
  },
): Found {
  const { path } = options;
  const todo = path === "" ? [] : path.split("/").reverse();
  const trail: PlaceId[] = [root];
  let links = 0;
  let cut = false;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (--options.budget.left < 0) return { kind: "exhausted" };
    const at = trail.at(-1) ?? root;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const parent = tree.directory(at);
    if (parent === undefined) return { kind: "cut-off" };
    cut ||= hasMark(tree, at, OPAQUE);
    let place = tree.find(parent, name);
    if (place === undefined || hasMark(tree, place, WHITEOUT)) {
      if (options.enter === undefined) {
        return cut || place !== undefined ? { kind: "cut-off" } : { kind: "nothing" };
      }
      place = options.enter(parent, name);
    }
    const inode = tree.inode(place);
    if (tree.inodes.isSymlink(inode) && (todo.length > 0 || options.followLast)) {
      if (++links > MAX_SYMLINKS) return { kind: "loop" };
      const target = tree.inodes.target(inode);
      if (target.startsWith("/")) trail.length = 1;
      todo.push(...target.split("/").reverse());
      // What links put together is bounded as a path is.
      if (todo.length > 4096) return { kind: "loop" };
      continue;
    }
    trail.push(place);
  }
  return { kind: "place", place: trail.at(-1) ?? root };
}

/** Lays the tree of the layers above over a lower one: `upper` takes what of `lower` is seen. */
export function mergeBelow(tree: FileTree, upper: PlaceId, lower: PlaceId): void {
  const pairs: Array<readonly [PlaceId, PlaceId]> = [[upper, lower]];
  for (let pair = pairs.pop(); pair !== undefined; pair = pairs.pop()) {
    const [over, under] = pair;
    const open = !hasMark(tree, over, OPAQUE);
    const into = tree.directory(over);
    const from = tree.directory(under);
    let next = from === undefined ? undefined : tree.first(from);
    while (next !== undefined && into !== undefined) {
      const place = next;
      next = tree.next(place);
      const hiding = tree.find(into, tree.name(place));
      if (hiding === undefined) {
        if (open) tree.move(place, into);
      } else if (tree.directory(hiding) !== undefined) {
        if (tree.directory(place) === undefined) {
          mark(tree, hiding, OPAQUE);
          unmark(tree, hiding, IMPLIED);
        } else if (open) {
          // Inside an opaque directory nothing of the lower layer is taken, whatever its depth.
          pairs.push([hiding, place]);
        }
      }
    }
    if (hasMark(tree, over, IMPLIED) && !hasMark(tree, under, IMPLIED)) {
      tree.setInode(over, tree.inode(under));
      unmark(tree, over, IMPLIED);
    }
    if (hasMark(tree, under, OPAQUE)) mark(tree, over, OPAQUE);
  }
}

/** Takes the whiteouts out of a merged tree: below the lowest layer there is nothing to hide. */
export function dropWhiteouts(tree: FileTree, root: PlaceId): void {
  const pending: PlaceId[] = [root];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const directory = tree.directory(at);
    if (directory === undefined) continue;
    let whiteouts = false;
    for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
      whiteouts ||= hasMark(tree, place, WHITEOUT);
      if (tree.directory(place) !== undefined) pending.push(place);
    }
    if (whiteouts) tree.filter(directory, (place) => !hasMark(tree, place, WHITEOUT));
  }
}
