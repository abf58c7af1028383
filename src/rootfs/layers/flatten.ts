import { FirectlError } from "../../core/errors.ts";
import { layerError } from "../../tar/layer-error.ts";
import type { TarEntry } from "../../tar/reader.ts";
import { BLOCK_SIZE } from "../ext4/format.ts";
import type { Inode, Run } from "../ext4/tree.ts";
import { type RootfsLimits, STEPS_PER_ENTRY } from "../limits.ts";
import type { FileData } from "./file-data.ts";
import { LinkResolver } from "./hard-links.ts";
import { LayerSink } from "./layer-sink.ts";
import {
  dropWhiteouts,
  impliedDirectory,
  type LayerNode,
  mergeBelow,
  type StepBudget,
} from "./layer-tree.ts";

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
