import { describe, test } from "vitest";
import { Space } from "./space.ts";

const gap = (physical: number, length: number) => ({ logical: 0, physical, length });

describe("Space", () => {
  test("takes the first gap that is large enough, else what is behind everything", ({ expect }) => {
    const space = new Space(1000, [gap(10, 1), gap(20, 3), gap(30, 1)]);
    expect([space.take(2), space.take(1), space.take(1), space.take(1), space.take(1)]).toEqual([
      20, 10, 22, 30, 1000,
    ]);
    expect(space.gapBlocks).toBe(0);
    expect(space.freeRuns(1001)).toEqual([]);
  });

  test("what is given is taken first, and what is left is free", ({ expect }) => {
    const space = new Space(100, [gap(10, 2), gap(20, 5)]);
    space.take(2);
    space.give(3, 2);
    expect(space.take(1)).toBe(3);
    expect(space.gapBlocks).toBe(6);
    expect(space.freeRuns(110)).toEqual([gap(4, 1), gap(20, 5), gap(100, 10)]);
  });

  test("a million gaps too small cost no search", ({ expect }) => {
    const gaps = Array.from({ length: 1_000_000 }, (_, i) => gap(2 * i, 1));
    const space = new Space(2_000_000, gaps);
    for (let i = 0; i < 100_000; i++) {
      expect(space.take(2)).toBe(2_000_000 + 2 * i);
      expect(space.take(1)).toBe(2 * i);
    }
  });
});
