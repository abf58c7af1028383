import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "./sha256.ts";

const expected = (text: string): string => createHash("sha256").update(text).digest("hex");

test("is that of FIPS 180-4's example", () => {
  expect(sha256Hex("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

test.each([0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000])("of %i bytes is node:crypto's", (length) => {
  const text = "x".repeat(length);
  expect(sha256Hex(text)).toBe(expected(text));
});

test("of any text is node:crypto's", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 200 }), (text) => {
      expect(sha256Hex(text)).toBe(expected(text));
    }),
  );
});
