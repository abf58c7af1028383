import zlib, { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { noise } from "../image.test-helper.ts";
import type { Packed } from "../media-types.ts";
import { nativeDecoder } from "./native-decoder.ts";

/** What comes out, in an output of `size` bytes at a time. */
function unpack(bytes: Buffer, piece: number, size = 256 * 1024, compression: Packed = "gzip"): Buffer {
  const parts: Buffer[] = [];
  let space = Buffer.alloc(size);
  const decoder = nativeDecoder(compression, {
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

/** What node:zlib has since 22.15, and its types do not know yet. */
const zstdCompress: unknown = Reflect.get(zlib, "zstdCompressSync");

describe.runIf(typeof zstdCompress === "function")("zstd, where node:zlib has it", () => {
  function pack(bytes: Buffer): Buffer {
    if (typeof zstdCompress !== "function") throw new Error("only where it is there");
    return zstdCompress(bytes);
  }
  const first = noise(200_000, "z");
  const frames = (): Buffer =>
    Buffer.concat([pack(first), pack(Buffer.alloc(0)), pack(Buffer.alloc(300_000))]);
  const content = Buffer.concat([first, Buffer.alloc(300_000)]);

  test.each([1, 1000, 65_536, 10_000_000])("several frames, in pieces of %i bytes", (piece) => {
    expect(unpack(frames(), piece, 64 * 1024, "zstd").equals(content)).toBe(true);
  });

  test("cut off anywhere but between frames is an error", () => {
    const whole = pack(noise(3000, "c"));
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => unpack(whole.subarray(0, length), 65_536, 64 * 1024, "zstd")).toThrow();
    }
    expect(unpack(whole, 65_536, 64 * 1024, "zstd")).toHaveLength(3000);
  });

  test.each<[string, () => Buffer]>([
    ["no zstd", () => content],
    ["rubbish behind", () => Buffer.concat([frames(), Buffer.from("rubbish")])],
  ])("%s is an error", (_, bytes) => {
    expect(() => unpack(bytes(), 65_536, 64 * 1024, "zstd")).toThrow();
  });
});
