import { MODE_SYMLINK, MODE_TYPE } from "../ext4/format.ts";
import { directoryInode, type Inode, type TreeNode } from "../ext4/tree.ts";

/*
 * One layer unpacked on its own, the way overlay filesystems apply layers: its symlinks and hard links lead to
 * what the layer itself holds. Beside it the tree of the layers above, which says what of it will be seen.
 */

/** A place in a layer, or in the merged tree that layers become. */
export interface LayerNode extends TreeNode {
  inode: Inode;
  /** Undefined for everything but a directory. */
  readonly children: Map<string, LayerNode> | undefined;
  /** Stands for a whiteout: nothing is here, and nothing of a lower layer shows. */
  readonly whiteout: boolean;
  /** Lower layers add nothing to this directory. */
  opaque: boolean;
  /** Made only because something lies in it: takes its metadata from the next lower layer that has it. */
  implied: boolean;
  /** What the layers above have here: a directory, or something that hides this place; undefined for nothing. */
  readonly above: LayerNode | typeof HIDDEN | undefined;
}

/** Marks a place of which nothing will be seen. */
export const HIDDEN: unique symbol = Symbol("hidden");

/** Most symlinks followed on the way to one entry, the kernel's own limit (MAXSYMLINKS). */
const MAX_SYMLINKS = 40;

/** A directory that no entry has described yet. */
export function impliedDirectory(above: LayerNode["above"]): LayerNode {
  return {
    inode: directoryInode(0o755),
    children: new Map(),
    whiteout: false,
    opaque: false,
    implied: true,
    above,
  };
}

/** What the layers above `parent` have at `name` in it. */
export function aboveOf(parent: LayerNode, name: string): LayerNode["above"] {
  const { above } = parent;
  if (above === undefined || above === HIDDEN) return above;
  const node = above.children?.get(name);
  if (node === undefined) return above.opaque ? HIDDEN : undefined;
  return node.children === undefined ? HIDDEN : node;
}

/** Where a walk through a layer ended. */
export type Found =
  | { readonly kind: "node"; readonly node: LayerNode; readonly path: string }
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
  root: LayerNode,
  path: string,
  options: {
    followLast: boolean;
    budget: StepBudget;
    enter?: (parent: LayerNode, name: string) => LayerNode | undefined;
  },
): Found {
  const todo = path === "" ? [] : path.split("/").reverse();
  const names: string[] = [];
  const trail: LayerNode[] = [root];
  let links = 0;
  let cut = false;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (--options.budget.left < 0) return { kind: "exhausted" };
    const parent = trail.at(-1) ?? root;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      names.pop();
      if (trail.length > 1) trail.pop();
      continue;
    }
    if (parent.children === undefined) return { kind: "cut-off" };
    cut ||= parent.opaque;
    let node = parent.children.get(name);
    if (node === undefined || node.whiteout) {
      const made = options.enter?.(parent, name);
      if (made === undefined) return cut || node !== undefined ? { kind: "cut-off" } : { kind: "nothing" };
      node = made;
    }
    const isLink = (node.inode.mode & MODE_TYPE) === MODE_SYMLINK;
    if (isLink && (todo.length > 0 || options.followLast)) {
      if (++links > MAX_SYMLINKS) return { kind: "loop" };
      if (node.inode.target.startsWith("/")) {
        names.length = 0;
        trail.length = 1;
      }
      todo.push(...node.inode.target.split("/").reverse());
      // What links put together is bounded as a path is.
      if (todo.length > 4096) return { kind: "loop" };
      continue;
    }
    names.push(name);
    trail.push(node);
  }
  return { kind: "node", node: trail.at(-1) ?? root, path: names.join("/") };
}

/**
 * Lays the tree of the layers above over a lower one: `upper` takes what of `lower` is seen.
 */
export function mergeBelow(upper: LayerNode, lower: LayerNode): void {
  const pairs: Array<readonly [LayerNode, LayerNode]> = [[upper, lower]];
  for (let pair = pairs.pop(); pair !== undefined; pair = pairs.pop()) {
    const [over, under] = pair;
    for (const [name, node] of under.children ?? []) {
      const hiding = over.children?.get(name);
      if (hiding === undefined) {
        if (!over.opaque) over.children?.set(name, node);
      } else if (hiding.children !== undefined) {
        if (node.children !== undefined) {
          // Inside an opaque directory nothing of the lower layer is taken, whatever its depth.
          if (!over.opaque) pairs.push([hiding, node]);
        } else {
          hiding.opaque = true;
          hiding.implied = false;
        }
      }
    }
    if (over.implied && !under.implied) {
      over.inode = under.inode;
      over.implied = false;
    }
    over.opaque ||= under.opaque;
  }
}

/** Takes the whiteouts out of a merged tree: below the lowest layer there is nothing to hide. */
export function dropWhiteouts(root: LayerNode): void {
  const directories: LayerNode[] = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const [name, node] of directory.children ?? []) {
      if (node.whiteout) directory.children?.delete(name);
      else if (node.children !== undefined) directories.push(node);
    }
  }
}
