import zlib, { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { noise } from "../image.test-helper.ts";
import { nativeDecoder } from "./native-decoder.ts";

/** What comes out, in an output of `size` bytes at a time. */
function unpack(bytes: Buffer, piece: number, size = 256 * 1024): Buffer {
  const parts: Buffer[] = [];
  let space = Buffer.alloc(size);
  const decoder = nativeDecoder("gzip", {
    space: () => space,
    advance(length) {
      parts.push(Buffer.from(space.subarray(0, length)));
      space = length === space.length ? Buffer.alloc(size) : space.subarray(length);
    },
  });
  if (decoder === undefined) throw new Error("this Node has other internals: see native-decoder.ts");
  for (let start = 0; start < bytes.length; start += piece)
    decoder.write(bytes.subarray(start, start + piece));
  decoder.end();
  return Buffer.concat(parts);
}

describe("unpacking synchronously", () => {
  const content = Buffer.concat([noise(300_000, "a"), Buffer.alloc(3 * 256 * 1024), noise(10, "b")]);

  test("rests on what this Node has", () => {
    expect(nativeDecoder("gzip", { space: () => Buffer.alloc(1), advance: () => {} })).toBeDefined();
  });

  test.runIf("createZstdDecompress" in zlib)("rests on what this Node has for zstd", () => {
    expect(nativeDecoder("zstd", { space: () => Buffer.alloc(1), advance: () => {} })).toBeDefined();
  });

  test.each([1000, 65_536, 10_000_000])("one member, in pieces of %i bytes", (piece) => {
    expect(unpack(gzipSync(content), piece).equals(content)).toBe(true);
  });

  test("into memory that threads share, a byte at a time", () => {
    const bytes = Buffer.from("few bytes");
    expect(unpack(gzipSync(bytes), 3, 1).equals(bytes)).toBe(true);
    const shared = Buffer.from(new SharedArrayBuffer(100));
    const decoder = nativeDecoder("gzip", { space: () => shared, advance: () => {} });
    decoder?.write(gzipSync(bytes));
    expect(shared.subarray(0, bytes.length).toString()).toBe("few bytes");
  });

  test("several members, and an output that ends with a full buffer", () => {
    const full = Buffer.alloc(256 * 1024, "x");
    const packed = Buffer.concat([gzipSync(full), gzipSync(Buffer.alloc(0)), gzipSync(full)]);
    expect(unpack(packed, 100).equals(Buffer.concat([full, full]))).toBe(true);
  });

  test.each<[string, Buffer]>([
    ["cut off", gzipSync(content).subarray(0, -9)],
    ["nothing", Buffer.alloc(0)],
    ["no gzip", content],
    ["rubbish behind", Buffer.concat([gzipSync(content), Buffer.from("rubbish")])],
  ])("%s is an error", (_, bytes) => {
    expect(() => unpack(bytes, 65_536)).toThrow();
  });
});
