import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ReadAhead, SlabPool } from "./read-ahead.ts";

const SLAB = 512 * 1024;

/** Chunks of one buffer used again and again, as a source may; says how many were asked for. */
function counting(sizes: readonly number[]): {
  asked: () => number;
  open: () => AsyncIterable<Uint8Array>;
} {
  let asked = 0;
  const buffer = Buffer.alloc(Math.max(0, ...sizes));
  return {
    asked: () => asked,
    open: async function* () {
      for (const size of sizes) {
        yield buffer.subarray(0, size).fill(asked++);
      }
    },
  };
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts).toString("latin1");
}

function expected(sizes: readonly number[]): string {
  return sizes.map((size, index) => String.fromCharCode(index).repeat(size)).join("");
}

describe("reading ahead", () => {
  const cases: ReadonlyArray<readonly [name: string, sizes: readonly number[]]> = [
    ["nothing", []],
    ["one byte", [1]],
    ["small chunks", [10, 20, 30]],
    ["one slab", [SLAB]],
    ["more than a slab in a chunk", [SLAB + 1, 5]],
    ["more than the pool", [SLAB, SLAB, SLAB, SLAB - 1, SLAB]],
    ["a chunk larger than the pool", [4 * SLAB, 7]],
  ];
  test.each(cases)("%s: every byte once and in order, read before its turn or after", async (_, sizes) => {
    for (const isEarly of [true, false]) {
      const source = counting(sizes);
      await using ahead = new ReadAhead(source.open, new SlabPool(2 * SLAB));
      if (isEarly) for (let i = 0; i < 20; i++) await turn();
      expect(await collect(ahead.chunks())).toBe(expected(sizes));
    }
  });

  test("stops at the pool's memory until there is room", async () => {
    const pool = new SlabPool(2 * SLAB);
    const [first, second] = [counting(Array(10).fill(SLAB)), counting(Array(10).fill(SLAB))];
    await using one = new ReadAhead(first.open, pool);
    for (let i = 0; i < 20; i++) await turn();
    expect(first.asked()).toBe(3);
    await using two = new ReadAhead(second.open, pool);
    for (let i = 0; i < 20; i++) await turn();
    expect(second.asked()).toBe(1);
    // One after the other both get through, whichever slabs the other holds.
    expect((await collect(one.chunks())).length).toBe(10 * SLAB);
    expect((await collect(two.chunks())).length).toBe(10 * SLAB);
  });

  test("a reader that has all the pool's slabs taken by others still gets its bytes", async () => {
    const pool = new SlabPool(SLAB);
    const source = counting([SLAB, SLAB, SLAB]);
    await using hoarder = new ReadAhead(source.open, pool);
    for (let i = 0; i < 20; i++) await turn();
    await using reader = new ReadAhead(counting([5, 6]).open, pool);
    expect(await collect(reader.chunks())).toBe(expected([5, 6]));
    expect((await collect(hoarder.chunks())).length).toBe(3 * SLAB);
  });

  test("a source's failure reaches the reader after the bytes before it", async () => {
    const open = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from("abc");
      throw new Error("broken");
    };
    await using ahead = new ReadAhead(open, new SlabPool(SLAB));
    const chunks = ahead.chunks();
    expect((await chunks.next()).value?.toString()).toBe("abc");
    await expect(chunks.next()).rejects.toThrow("broken");
  });

  test("disposing of it ends the source, in whatever it is", async () => {
    const ends: string[] = [];
    const waiting = async function* (signal: AbortSignal): AsyncGenerator<Uint8Array> {
      try {
        await new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
        yield Buffer.alloc(0);
      } finally {
        ends.push("waiting");
      }
    };
    const blocked = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield Buffer.alloc(SLAB);
      } finally {
        ends.push("blocked");
      }
    };
    const pool = new SlabPool(SLAB);
    {
      await using _one = new ReadAhead(waiting, pool);
      await using _two = new ReadAhead(blocked, pool);
      for (let i = 0; i < 5; i++) await turn();
    }
    expect(ends.toSorted()).toEqual(["blocked", "waiting"]);
    expect(pool.take()).toBeDefined();
  });
});
