import fc from "fast-check";
import { describe, test } from "vitest";
import {
  BLOCK_ENTRIES,
  buildExtentTree,
  type ExtentTree,
  extentBlockCount,
  extentsOf,
  MAX_EXTENT_BLOCKS,
} from "./extents.ts";
import type { Run } from "./inodes.ts";

/** Reads a tree back the way the kernel does. */
function decode(tree: ExtentTree): { depth: number; extents: Run[] } {
  const blocks = new Map(tree.blocks.map(({ block, bytes }) => [block, bytes]));
  const extents: Run[] = [];
  const visit = (node: Buffer, depth: number): void => {
    if (node.readUInt16LE(0) !== 0xf30a || node.readUInt16LE(6) !== depth) throw new Error("wrong header");
    const count = node.readUInt16LE(2);
    if (count > node.readUInt16LE(4) || 12 + 12 * count > node.length) throw new Error("too many entries");
    for (let at = 12; at < 12 + 12 * count; at += 12) {
      const logical = node.readUInt32LE(at);
      if (depth === 0) {
        extents.push({ logical, length: node.readUInt16LE(at + 4), physical: node.readUInt32LE(at + 8) });
        continue;
      }
      const child = blocks.get(node.readUInt32LE(at + 4));
      if (child === undefined) throw new Error("index leads nowhere");
      const first = extents.length;
      visit(child, depth - 1);
      if (extents[first]?.logical !== logical) throw new Error("index does not begin where its leaf does");
    }
  };
  const depth = tree.root.readUInt16LE(6);
  visit(tree.root, depth);
  return { depth, extents };
}

function build(extents: readonly Run[]): ExtentTree {
  return buildExtentTree(extents, 1_000_000);
}

const scattered = (count: number): Run[] =>
  Array.from({ length: count }, (_, i) => ({ logical: 3 * i, physical: 10 + 2 * i, length: 1 }));

describe("extent trees", () => {
  test.for([
    [0, 0, 0],
    [1, 0, 0],
    [4, 0, 0],
    [5, 1, 1],
    [BLOCK_ENTRIES, 1, 1],
    [BLOCK_ENTRIES + 1, 1, 2],
    [4 * BLOCK_ENTRIES, 1, 4],
    [4 * BLOCK_ENTRIES + 1, 2, 6],
    [BLOCK_ENTRIES * BLOCK_ENTRIES + 1, 2, 343],
    [4 * BLOCK_ENTRIES * BLOCK_ENTRIES + 1, 3, 1361 + 5 + 1],
  ] as const)("%i extents have depth %i and %i blocks", ([count, depth, blocks], { expect }) => {
    const extents = scattered(count);
    const tree = build(extents);
    expect(tree.blocks).toHaveLength(blocks);
    expect(extentBlockCount(count)).toBe(blocks);
    const decoded = decode(tree);
    expect(decoded.depth).toBe(depth);
    expect(
      decoded.extents.length === count &&
        decoded.extents.every((e, i) => e.physical === extents[i]?.physical),
    ).toBe(true);
  });

  test("read back what was put in", ({ expect }) => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            gap: fc.nat(100),
            length: fc.integer({ min: 1, max: MAX_EXTENT_BLOCKS }),
            physical: fc.nat(2 ** 32 - 1),
          }),
          { maxLength: 1500 },
        ),
        (parts) => {
          let logical = 0;
          const extents = parts.map(({ gap, length, physical }) => {
            const start = logical + gap;
            logical = start + length;
            return { logical: start, physical, length };
          });
          expect(decode(build(extents)).extents).toEqual(extents);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe("extentsOf", () => {
  test.for([
    [1, [1]],
    [32_767, [32_767]],
    [32_768, [32_768]],
    [32_769, [32_768, 1]],
    [131_072, [32_768, 32_768, 32_768, 32_768]],
  ] as const)("cuts %i blocks into %j", ([length, lengths], { expect }) => {
    const extents = extentsOf([{ logical: 7, physical: 100, length }]);
    expect(extents.map((extent) => extent.length)).toEqual(lengths);
    expect(extents.at(-1)).toMatchObject({
      logical: 7 + length - (lengths.at(-1) ?? 0),
      physical: 100 + length - (lengths.at(-1) ?? 0),
    });
  });

  test("a file of 43 GiB in one piece has a second leaf", ({ expect }) => {
    const blocks = (43 * 2 ** 30) / 4096;
    const extents = extentsOf([{ logical: 0, physical: 8, length: blocks }]);
    expect(extents).toHaveLength(344);
    const tree = build(extents);
    expect(tree.blocks).toHaveLength(2);
    expect(decode(tree).extents).toEqual(extents);
  });
});
