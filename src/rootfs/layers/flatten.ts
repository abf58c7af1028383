import { layerError } from "../../tar/layer-error.ts";
import type { TarEntry } from "../../tar/reader.ts";
import type { InodeId, Run } from "../ext4/inodes.ts";
import { dataRuns } from "../ext4/layout.ts";
import type { FileTree, PlaceId } from "../ext4/tree.ts";
import { limitError, type RootfsLimits, STEPS_PER_ENTRY } from "../limits.ts";
import type { FileData } from "./file-data.ts";
import { LinkResolver } from "./hard-links.ts";
import { LayerSink } from "./layer-sink.ts";
import {
  dropWhiteouts,
  impliedInode,
  layerOf,
  MAX_LAYERS,
  mergeBelow,
  type StepBudget,
} from "./layer-tree.ts";

/**
 * Merges layers, the topmost first, so that the data of what a lower layer would only lose is never written.
 * The result is what overlaying the layers gives, each first unpacked on its own: see layer-tree.ts.
 */
export class Flattener {
  readonly #tree: FileTree;
  readonly #data: FileData;
  readonly #limits: RootfsLimits;
  readonly #links: LinkResolver;
  /** Inodes whose data is in the image, in the order of their blocks. */
  readonly #written: InodeId[] = [];
  /** Names of the layers, the topmost first. */
  readonly #layers: string[] = [];
  #merged: PlaceId | undefined;
  #entries = 0;
  #metadataBytes = 0;
  #aclsPassedOver = 0;
  #firstAclPassedOver:
    | { readonly layer: string; readonly entry: string; readonly problem: string }
    | undefined;
  readonly #budget: StepBudget;

  constructor(tree: FileTree, data: FileData, limits: RootfsLimits) {
    this.#tree = tree;
    this.#data = data;
    this.#limits = limits;
    this.#budget = { left: STEPS_PER_ENTRY * limits.maxEntries };
    this.#links = new LinkResolver(tree, this.#budget);
  }

  /**
   * Begins the next lower layer: its entries go to the sink, then {@link LayerSink.finish} is to be called.
   */
  layer(name: string): LayerSink {
    this.#layers.push(name);
    if (this.#layers.length > MAX_LAYERS) {
      throw layerError(name, undefined, `the image has more than ${MAX_LAYERS} layers`);
    }
    return new LayerSink(name, this.#merged, {
      tree: this.#tree,
      depth: this.#layers.length,
      data: this.#data,
      links: this.#links,
      written: this.#written,
      budget: this.#budget,
      countEntry: (entry) => this.#countEntry(name, entry),
      aclPassedOver: (entry, problem) => {
        this.#aclsPassedOver++;
        this.#firstAclPassedOver ??= { layer: name, entry, problem };
      },
      countImplied: (entry) => this.#count(name, entry, 1),
      merge: (root) => {
        if (this.#merged === undefined) this.#merged = root;
        else mergeBelow(this.#tree, this.#merged, root);
      },
    });
  }

  /** Notes that the data of `inode`, passed over at first, is in the image now. */
  rescued(inode: InodeId): void {
    this.#written.push(inode);
  }

  /** The merged tree, once the lowest layer is in. */
  finish(): PlaceId {
    this.#links.finish();
    const root = this.#merged ?? this.#tree.addRoot(impliedInode(this.#tree));
    dropWhiteouts(this.#tree, root);
    return root;
  }

  /** What of the layers is not in the tree, in words; undefined when all of it is. */
  get notice(): string | undefined {
    if (this.#firstAclPassedOver === undefined) return undefined;
    const { layer, entry, problem } = this.#firstAclPassedOver;
    const { message } = layerError(layer, entry, problem);
    const others = this.#aclsPassedOver - 1;
    return `${message}; it is left out${others === 0 ? "" : `, and ${others} more`}`;
  }

  /** Which layer a place of the merged tree comes from. */
  layerName(place: PlaceId): string {
    return this.#layers[layerOf(this.#tree, place) - 1] ?? "";
  }

  /**
   * Data blocks that no file of the tree uses: those of entries that came twice in their layer. The tree's inodes
   * must have been numbered.
   */
  unusedRuns(): Run[] {
    const runs: Run[] = [];
    for (const inode of this.#written) {
      if (this.#tree.inodes.number(inode) !== 0) continue;
      for (const run of dataRuns(this.#tree.inodes, inode)) runs.push(run);
    }
    return runs;
  }

  #countEntry(layer: string, entry: TarEntry): void {
    this.#metadataBytes += entry.path.length + entry.linkPath.length;
    for (const { name, value } of entry.xattrs ?? []) this.#metadataBytes += name.length + value.length;
    const { maxMetadataBytes } = this.#limits;
    if (this.#metadataBytes > maxMetadataBytes) {
      const problem = `more than ${maxMetadataBytes} bytes of names and attributes`;
      throw limitError({ layer, entry: entry.path }, problem, "--max-image-entries");
    }
    this.#count(layer, entry, 1 + (entry.sparse?.length ?? 0));
  }

  /** A directory that no entry describes takes as much memory as one that has an entry. */
  #count(layer: string, entry: TarEntry, entries: number): void {
    this.#entries += entries;
    const { maxEntries } = this.#limits;
    if (this.#entries > maxEntries) {
      throw limitError(
        { layer, entry: entry.path },
        `more than ${maxEntries} entries`,
        "--max-image-entries",
      );
    }
  }
}
