import { expect, test } from "vitest";
import { mergeAsync } from "./merge-async.ts";

async function* countTo(last: number, log: string[] = []): AsyncGenerator<number> {
  try {
    for (let value = 1; value <= last; value++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      yield value;
    }
  } finally {
    log.push(`ended ${last}`);
  }
}

test("every source comes whole and in its own order", async () => {
  const merged: number[] = [];
  for await (const value of mergeAsync(countTo(3), (async function* () {})(), countTo(5))) merged.push(value);
  expect(merged.toSorted()).toEqual([1, 1, 2, 2, 3, 3, 4, 5]);
});

test("a failing source is the loop's failure, and ends the others", async () => {
  const log: string[] = [];
  const failing = (async function* (): AsyncGenerator<number> {
    yield 0;
    throw new Error("no more");
  })();
  await expect(async () => {
    for await (const _ of mergeAsync(countTo(1000, log), failing));
  }).rejects.toThrow("no more");
  await expect.poll(() => log).toEqual(["ended 1000"]);
});
