import { expect, test } from "vitest";
import { parsePortRange, portsIn } from "./port-range.ts";

test.each([
  ["1", { first: 1, last: 1 }],
  ["65535", { first: 65_535, last: 65_535 }],
  ["8000-8002", { first: 8000, last: 8002 }],
  ["0", undefined],
  ["65536", undefined],
  ["2-1", undefined],
  ["1-65536", undefined],
  ["-1", undefined],
  ["1-", undefined],
  ["web", undefined],
  ["", undefined],
])("%j", (text, range) => {
  expect(parsePortRange(text)).toEqual(range);
});

test("a range holds both its ends", () => {
  expect(portsIn({ first: 8000, last: 8002 })).toEqual([8000, 8001, 8002]);
});
