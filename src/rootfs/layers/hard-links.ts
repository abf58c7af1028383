import { layerError } from "../../tar/layer-error.ts";
import { type Inode, isDirectory } from "../ext4/tree.ts";
import { type LayerNode, type StepBudget, walk } from "./layer-tree.ts";

/** A link whose target the layer itself does not have: a lower one must. */
interface PendingLink {
  readonly layer: string;
  /** Layers counted from the top. */
  readonly depth: number;
  readonly entry: string;
  readonly target: string;
  /** Names that lead to it, and whether each is seen. */
  readonly names: Array<{ readonly node: LayerNode; readonly visible: boolean }>;
}

/**
 * Follows hard links within a layer and into lower ones, and notices those that need the data of a file which
 * was passed over because a layer above hides its name.
 */
export class LinkResolver {
  readonly #budget: StepBudget;
  #layer = "";
  #depth = 0;
  /** Hidden files of the current layer, with their place in it. */
  #passedOver = new Map<Inode, number>();
  /** Those of them that something visible leads to. */
  #needed = new Map<number, Inode>();
  /** Links of the current layer and the layers above that wait for their target, by the inode they have meanwhile. */
  readonly #pending = new Map<Inode, PendingLink>();

  constructor(budget: StepBudget) {
    this.#budget = budget;
  }

  beginLayer(name: string): void {
    this.#layer = name;
    this.#depth++;
    this.#passedOver = new Map();
    this.#needed = new Map();
  }

  /** Notes that the data of `inode`, the layer's entry number `ordinal`, was not taken. */
  passedOver(inode: Inode, ordinal: number): void {
    this.#passedOver.set(inode, ordinal);
  }

  /** Notes that `node` is a further name of its inode. */
  linked(node: LayerNode, visible: boolean): void {
    this.#pending.get(node.inode)?.names.push({ node, visible });
    if (visible) this.#need(node.inode);
  }

  /** Notes that `node` is a link to a path that the layer does not hold. */
  pending(node: LayerNode, link: { target: string; entry: string; visible: boolean }): void {
    this.#pending.set(node.inode, {
      layer: this.#layer,
      depth: this.#depth,
      entry: link.entry,
      target: link.target,
      names: [{ node, visible: link.visible }],
    });
  }

  /**
   * Looks in the layer just read for what links of the layers above wait for. Returns what of the layer must be
   * read again.
   */
  endLayer(root: LayerNode): ReadonlyMap<number, Inode> {
    for (const [placeholder, link] of this.#pending) {
      if (link.depth === this.#depth) continue;
      const found = walk(root, link.target, { followLast: false, budget: this.#budget });
      if (found.kind === "nothing") continue;
      if (found.kind !== "node" || isDirectory(found.node.inode)) throw missing(link);
      this.#pending.delete(placeholder);
      this.#resolve(link, found.node.inode);
    }
    return this.#needed;
  }

  /** To be called after the lowest layer. */
  finish(): void {
    for (const link of this.#pending.values()) {
      if (link.names.some(({ visible }) => visible)) throw missing(link);
    }
  }

  #resolve(link: PendingLink, inode: Inode): void {
    const further = this.#pending.get(inode);
    for (const name of link.names) {
      name.node.inode = inode;
      further?.names.push(name);
      if (name.visible) this.#need(inode);
    }
  }

  #need(inode: Inode): void {
    const ordinal = this.#passedOver.get(inode);
    if (ordinal !== undefined) this.#needed.set(ordinal, inode);
  }
}

function missing(link: PendingLink): Error {
  return layerError(link.layer, link.entry, "a hard link to a file that does not exist");
}
