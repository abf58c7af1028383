import { BLOCK_SIZE, FIRST_INODE } from "./format.ts";
import type { InodeId } from "./inodes.ts";
import { RecordTable } from "./record-table.ts";
import type { Space } from "./space.ts";
import type { NumberedTree } from "./tree.ts";
import { attributesOutside, largeValues, MAX_BLOCK_REFERENCES } from "./xattr.ts";
import { keyOf, packXattrs, SHARED_SETS, type XattrSetId, type XattrSets } from "./xattr-sets.ts";

/*
 * Blocks of attributes: one content after the other, each in as many blocks as its users need, since so many inodes
 * may share one. A record for each content, for there may be as many as files:
 *
 *   0 a set of attributes of which it is what does not fit the inode | 1 inodes that lead to it | 2 first block
 */
const SET = 0;
const USES = 1;
const FIRST_BLOCK = 2;
const CONTENT_WORDS = 3;

declare const brand: unique symbol;
/** Names a content of attribute blocks. */
export type ContentId = number & { readonly [brand]: "ContentId" };

/** An inode that holds one large value. */
export interface ValueInode {
  readonly number: number;
  /** Which of its set's large values it holds. */
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
  const placement = new XattrPlacement(inodes.xattrSets, FIRST_INODE + numbered.inodes.length);
  if (inodes.xattrSets.bytes === 0) return placement;
  for (const inode of xattrOrder(numbered)) {
    const set = inodes.xattrs(inode);
    if (set !== undefined) placement.count(set);
  }
  placement.place(space);
  return placement;
}

/** Marks a set that needs no block. */
const INSIDE = 0xffff_ffff;

/** Where the attributes stand that do not fit their inodes. */
export class XattrPlacement {
  /** Inodes that hold one large value each, numbered from where those of the tree end. */
  readonly valueInodes: ValueInode[] = [];
  readonly #sets: XattrSets;
  readonly #firstNumber: number;
  readonly #contents: RecordTable = new RecordTable(CONTENT_WORDS);
  /** The content of each set, 0 before it is known. */
  readonly #bySet: Uint32Array;
  /** By what is packed in a content: its bytes are made again when they are written. */
  readonly #known: Map<string, ContentId> = new Map();
  readonly #values: Map<ContentId, readonly ValueInode[]> = new Map();

  constructor(sets: XattrSets, firstNumber: number) {
    this.#sets = sets;
    this.#firstNumber = firstNumber;
    this.#bySet = new Uint32Array(sets.count + 1);
  }

  /** Counts an inode that has `set`. */
  count(set: XattrSetId): void {
    if (this.#bySet[set] === 0) this.#bySet[set] = this.#contentFor(set) ?? INSIDE;
    const content = this.contentOf(set);
    if (content !== undefined) this.#contents.set(content, USES, this.uses(content) + 1);
  }

  /** Takes the blocks that all who were counted need. */
  place(space: Space): void {
    for (const content of this.contents()) {
      const values = largeValues(this.#sets.get(this.setOf(content)));
      if (values.length > 0) this.#values.set(content, this.#placeValues(values, space));
      this.#contents.set(content, FIRST_BLOCK, space.take(this.blockCount(content)));
    }
  }

  *contents(): Generator<ContentId> {
    for (let content = 1; content <= this.#contents.count; content++) {
      yield content as ContentId; // Such are the table's numbers.
    }
  }

  /** What the blocks of `set` hold, or undefined if it needs none. */
  contentOf(set: XattrSetId): ContentId | undefined {
    const content = this.#bySet[set] ?? 0;
    return content === 0 || content === INSIDE ? undefined : (content as ContentId); // What count() has put there.
  }

  /** A set that the content belongs to. */
  setOf(content: ContentId): XattrSetId {
    return this.#contents.get(content, SET) as XattrSetId; // What #contentFor() has put there.
  }

  /** How many inodes lead to the content. */
  uses(content: ContentId): number {
    return this.#contents.get(content, USES);
  }

  blockCount(content: ContentId): number {
    return Math.ceil(this.uses(content) / MAX_BLOCK_REFERENCES);
  }

  /** Block number `index` of a content. */
  block(content: ContentId, index: number): number {
    return this.#contents.get(content, FIRST_BLOCK) + index;
  }

  /** How many inodes share block number `index` of a content. */
  references(content: ContentId, index: number): number {
    return Math.min(MAX_BLOCK_REFERENCES, this.uses(content) - index * MAX_BLOCK_REFERENCES);
  }

  /** The inodes of a content's large values. */
  values(content: ContentId): readonly ValueInode[] {
    return this.#values.get(content) ?? [];
  }

  #contentFor(set: XattrSetId): ContentId | undefined {
    const outside = attributesOutside(this.#sets.get(set));
    if (outside.length === 0) return undefined;
    const key = keyOf(packXattrs(outside));
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const content = this.#contents.add() as ContentId; // Here contents get their names.
    this.#contents.set(content, SET, set);
    if (this.#known.size < SHARED_SETS) this.#known.set(key, content);
    return content;
  }

  #placeValues(values: readonly Buffer[], space: Space): ValueInode[] {
    return values.map((value, index) => {
      const inode: ValueInode = {
        number: this.#firstNumber + this.valueInodes.length,
        index,
        size: value.length,
        block: space.take(Math.ceil(value.length / BLOCK_SIZE)),
      };
      this.valueInodes.push(inode);
      return inode;
    });
  }
}
