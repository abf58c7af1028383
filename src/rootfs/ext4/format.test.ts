import fc from "fast-check";
import { test } from "vitest";
import { encodeDevice, MAX_MAJOR, MAX_MINOR, MAX_TIME, MIN_TIME, timeExtra } from "./format.ts";

test("times read back with the epoch bits, over their whole range", ({ expect }) => {
  fc.assert(
    fc.property(
      fc.integer({ min: MIN_TIME, max: MAX_TIME }),
      fc.integer({ min: 0, max: 999_999_999 }),
      (sec, nsec) => {
        const extra = timeExtra(sec, nsec);
        expect([(sec | 0) + (extra & 3) * 2 ** 32, extra >>> 2]).toEqual([sec, nsec]);
      },
    ),
  );
});

test.for([
  [1, 3, 0x103, 0],
  [255, 255, 0xffff, 0],
  [256, 0, 0, 0x1_0000],
  [8, 256, 0, 0x10_0800],
  [MAX_MAJOR, MAX_MINOR, 0, 0xffff_ffff],
] as const)("device %i:%i", ([major, minor, old, extended], { expect }) => {
  expect(encodeDevice(major, minor)).toEqual([old, extended]);
});
