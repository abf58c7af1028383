import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ReadAhead } from "./read-ahead.ts";

async function* numbers(count: number, asked: number[] = []): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) {
    asked.push(i);
    yield Buffer.from([i]);
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<number[]> {
  const found: number[] = [];
  for await (const chunk of chunks) found.push(...chunk);
  return found;
}

describe("reading ahead", () => {
  test.each([0, 1, 5])("gives all of %i chunks in order", async (count) => {
    await using ahead = new ReadAhead(() => numbers(count));
    expect(await collect(ahead.chunks())).toEqual(Array.from({ length: count }, (_, index) => index));
  });

  test("asks for the first chunk before anybody reads, and for no other", async () => {
    const asked: number[] = [];
    await using _ahead = new ReadAhead(() => numbers(3, asked));
    for (let i = 0; i < 5; i++) await turn();
    expect(asked).toEqual([0]);
  });

  test("a failure reaches the reader after what came before it", async () => {
    await using ahead = new ReadAhead(async function* () {
      yield Buffer.from("a");
      throw new Error("broken");
    });
    const chunks = ahead.chunks();
    expect((await chunks.next()).value?.toString()).toBe("a");
    await expect(chunks.next()).rejects.toThrow("broken");
  });

  test("one that nobody reads may fail unheard", async () => {
    await using _ahead = new ReadAhead(async function* (): AsyncGenerator<Uint8Array> {
      yield* [];
      throw new Error("broken");
    });
    for (let i = 0; i < 5; i++) await turn();
  });

  test("disposing of it ends the source, whether it waits or is in the middle", async () => {
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
    const going = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield Buffer.alloc(1);
      } finally {
        ends.push("going");
      }
    };
    {
      await using _one = new ReadAhead(waiting);
      await using two = new ReadAhead(going);
      await two.chunks().next();
    }
    expect(ends.toSorted()).toEqual(["going", "waiting"]);
  });
});
