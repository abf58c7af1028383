import { expect, test } from "vitest";
import { LatestValue } from "./latest-value.ts";

test("a slow reader gets the newest value, and the last one before the end", async () => {
  const values = new LatestValue<number>();
  const seen: number[] = [];
  const reading = (async () => {
    for await (const value of values) {
      seen.push(value);
      if (value === 1) {
        values.set(2);
        values.set(3);
      }
    }
  })();
  values.set(1);
  await new Promise((resolve) => setTimeout(resolve, 5));
  values.set(4);
  values.end();
  values.set(5);
  await reading;
  expect(seen).toEqual([1, 3, 4]);
});
