import { expect, test } from "vitest";
import { crc32c } from "./crc32c.ts";

/** RFC 3720, B.4: https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4 */
test.each([
  ["the check value", Buffer.from("123456789"), 0xe306_9283],
  ["nothing", Buffer.alloc(0), 0],
  ["32 zeroes", Buffer.alloc(32), 0x8a91_36aa],
  ["32 bytes of ones", Buffer.alloc(32, 0xff), 0x62a8_ab43],
  ["32 ascending bytes", Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd_794e],
  ["32 descending bytes", Buffer.from(Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113f_db5c],
])("%s", (_name, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected);
});

test("can be taken in pieces at any place", () => {
  const bytes = Buffer.from("The quick brown fox jumps over the lazy dog");
  for (let cut = 0; cut <= bytes.length; cut++) {
    expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc32c(bytes));
  }
});
