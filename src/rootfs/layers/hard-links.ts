import { layerError } from "../../tar/layer-error.ts";
import type { InodeId } from "../ext4/inodes.ts";
import type { FileTree, PlaceId } from "../ext4/tree.ts";
import { type StepBudget, walk } from "./layer-tree.ts";
import { PassedOver } from "./passed-over.ts";

/** A link whose target the layer itself does not have: a lower one must. */
interface PendingLink {
  readonly layer: string;
  /** Layers counted from the top. */
  readonly depth: number;
  readonly entry: string;
  readonly target: string;
  /** Names that lead to it, and whether each is seen. */
  readonly names: Array<{ readonly place: PlaceId; readonly visible: boolean }>;
}

/**
 * Follows hard links within a layer and into lower ones, and notices those that need the data of a file which
 * was passed over because a layer above hides its name.
 */
export class LinkResolver {
  readonly #tree: FileTree;
  readonly #budget: StepBudget;
  #layer = "";
  #depth = 0;
  /** Hidden files of the current layer, with their place in it. */
  #passedOver = new PassedOver();
  /** Those of them that something visible leads to. */
  #needed = new Map<number, InodeId>();
  /** Links of the current layer and the layers above that wait for their target, by the inode they have meanwhile. */
  readonly #pending: Map<InodeId, PendingLink> = new Map();

  constructor(tree: FileTree, budget: StepBudget) {
    this.#tree = tree;
    this.#budget = budget;
  }

  beginLayer(name: string): void {
    this.#layer = name;
    this.#depth++;
    this.#passedOver = new PassedOver();
    this.#needed = new Map();
  }

  /** Notes that the data of `inode`, the layer's entry number `ordinal`, was not taken. */
  passedOver(inode: InodeId, ordinal: number): void {
    this.#passedOver.add(inode, ordinal);
  }

  /** Notes that `place` is a further name of its inode. */
  linked(place: PlaceId, visible: boolean): void {
    const inode = this.#tree.inode(place);
    this.#pending.get(inode)?.names.push({ place, visible });
    if (visible) this.#need(inode);
  }

  /** Notes that `place` is a link to a path that the layer does not hold. */
  pending(place: PlaceId, link: { target: string; entry: string; visible: boolean }): void {
    this.#pending.set(this.#tree.inode(place), {
      layer: this.#layer,
      depth: this.#depth,
      entry: link.entry,
      target: link.target,
      names: [{ place, visible: link.visible }],
    });
  }

  /**
   * Looks in the layer just read for what links of the layers above wait for. Returns what of the layer must be
   * read again.
   */
  endLayer(root: PlaceId): ReadonlyMap<number, InodeId> {
    for (const [placeholder, link] of this.#pending) {
      if (link.depth === this.#depth) continue;
      const found = walk(this.#tree, root, { path: link.target, followLast: false, budget: this.#budget });
      if (found.kind === "nothing") continue;
      if (found.kind !== "place" || this.#tree.directory(found.place) !== undefined) throw missing(link);
      this.#pending.delete(placeholder);
      this.#resolve(link, placeholder, this.#tree.inode(found.place));
    }
    return this.#needed;
  }

  /** To be called after the lowest layer. */
  finish(): void {
    for (const [placeholder, link] of this.#pending) {
      if (link.names.some((name) => name.visible && this.#tree.inode(name.place) === placeholder)) {
        throw missing(link);
      }
    }
  }

  #resolve(link: PendingLink, placeholder: InodeId, inode: InodeId): void {
    const further = this.#pending.get(inode);
    for (const name of link.names) {
      // A later entry of its layer may have taken the name.
      if (this.#tree.inode(name.place) !== placeholder) continue;
      this.#tree.setInode(name.place, inode);
      further?.names.push(name);
      if (name.visible) this.#need(inode);
    }
  }

  #need(inode: InodeId): void {
    const ordinal = this.#passedOver.ordinal(inode);
    if (ordinal !== undefined) this.#needed.set(ordinal, inode);
  }
}

function missing(link: PendingLink): Error {
  return layerError(link.layer, link.entry, "a hard link to a file that does not exist");
}
