import { createHash } from "node:crypto";
import { BLOCK_SIZE, FIRST_INODE } from "./format.ts";
import type { InodeId } from "./inodes.ts";
import type { Space } from "./space.ts";
import type { NumberedTree } from "./tree.ts";
import { attributesOutside, largeValues, MAX_BLOCK_REFERENCES } from "./xattr.ts";
import { packXattrs, SHARED_SETS, type XattrSetId } from "./xattr-sets.ts";

/** Where the attributes stand that do not fit their inodes. */
export interface XattrPlacement {
  /** Of the sets that need blocks; those that need the same share them. */
  readonly sets: ReadonlyMap<XattrSetId, BlockPlacement>;
  readonly placements: readonly BlockPlacement[];
  /** Inodes that hold one large value each, numbered from where those of the tree end. */
  readonly valueInodes: readonly ValueInode[];
}

/** Blocks of the same content: as many inodes share one as may. */
export interface BlockPlacement {
  /** A set that needs it. */
  readonly set: XattrSetId;
  /** How many inodes lead to it. */
  uses: number;
  readonly blocks: number[];
  /** The inodes that hold its large values. */
  readonly valueInodes: readonly ValueInode[];
}

export interface ValueInode {
  readonly number: number;
  /** Which of the large values it holds. */
  readonly index: number;
  readonly size: number;
  readonly block: number;
}

/** The tree's inodes in the order in which they take their places in shared blocks. */
export function* xattrOrder({ tree, inodes, directories }: NumberedTree): Generator<InodeId> {
  const [root] = directories;
  if (root !== undefined) yield tree.inode(tree.place(root));
  yield* inodes;
}

/** Gives blocks to attributes that do not fit the inode, and inodes to values that do not fit a block. */
export function planXattrBlocks(numbered: NumberedTree, space: Space): XattrPlacement {
  const { inodes } = numbered.tree;
  const sets = new Map<XattrSetId, BlockPlacement>();
  const small = new Set<XattrSetId>();
  const blocks = new BlockPlanner(numbered, space);
  if (inodes.xattrSets.bytes === 0) return { sets, placements: [], valueInodes: [] };
  for (const inode of xattrOrder(numbered)) {
    const set = inodes.xattrs(inode);
    if (set === undefined || small.has(set)) continue;
    let placed = sets.get(set);
    if (placed === undefined) {
      placed = blocks.placementOf(set);
      if (placed === undefined) {
        small.add(set);
        continue;
      }
      sets.set(set, placed);
    }
    if (placed.uses % MAX_BLOCK_REFERENCES === 0) placed.blocks.push(space.take(1));
    placed.uses++;
  }
  return { sets, placements: blocks.placements, valueInodes: blocks.valueInodes };
}

class BlockPlanner {
  readonly placements: BlockPlacement[] = [];
  readonly valueInodes: ValueInode[] = [];
  readonly #numbered: NumberedTree;
  readonly #space: Space;
  /** By the digest of what goes into the block: the bytes themselves are made again when they are written. */
  readonly #known: Map<string, BlockPlacement> = new Map();

  constructor(numbered: NumberedTree, space: Space) {
    this.#numbered = numbered;
    this.#space = space;
  }

  /** The blocks of `set`, or undefined if it needs none. */
  placementOf(set: XattrSetId): BlockPlacement | undefined {
    const xattrs = this.#numbered.tree.inodes.xattrSets.get(set);
    const outside = attributesOutside(xattrs);
    if (outside.length === 0) return undefined;
    const digest = createHash("sha256").update(packXattrs(outside)).digest("base64");
    const known = this.#known.get(digest);
    if (known !== undefined) return known;
    const placed = { set, uses: 0, blocks: [], valueInodes: largeValues(xattrs).map(this.#valueInode) };
    this.placements.push(placed);
    if (this.#known.size < SHARED_SETS) this.#known.set(digest, placed);
    return placed;
  }

  readonly #valueInode = (value: Buffer, index: number): ValueInode => {
    const inode: ValueInode = {
      number: FIRST_INODE + this.#numbered.inodes.length + this.valueInodes.length,
      index,
      size: value.length,
      block: this.#space.take(Math.ceil(value.length / BLOCK_SIZE)),
    };
    this.valueInodes.push(inode);
    return inode;
  };
}

/** The block of use number `use`, counted from 0 in {@link xattrOrder}. */
export function blockOfUse(placed: BlockPlacement, use: number): number {
  return placed.blocks[Math.floor(use / MAX_BLOCK_REFERENCES)] ?? 0;
}

/** How many inodes share block number `index` of a placement. */
export function blockReferences(placed: BlockPlacement, index: number): number {
  return Math.min(MAX_BLOCK_REFERENCES, placed.uses - index * MAX_BLOCK_REFERENCES);
}
