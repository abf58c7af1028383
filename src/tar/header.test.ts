import fc from "fast-check";
import { describe, test } from "vitest";
import { number, parseHeader } from "./header.ts";
import { base256, encodeHeader } from "./tar-builder.test-helper.ts";

describe("number", () => {
  test.for([
    ["0000644\0", 0o644],
    ["   644 \0", 0o644],
    ["644     ", 0o644],
    ["\0\0\0\0\0\0\0\0", 0],
    ["        ", 0],
    ["7777777\0", 0o7777777],
    ["77777777", 0o77777777],
  ] as const)("reads %j", ([text, value], { expect }) => {
    expect(number(Buffer.from(text, "latin1"), 0, 8, "mode")).toBe(value);
  });

  test.for(["64x     ", "0000008\0", "-000644\0", "644 644\0", "0x1ff\0\0\0"])(
    "refuses %j",
    (text, { expect }) => {
      expect(() => number(Buffer.from(text, "latin1"), 0, 8, "mode")).toThrow(/^mode is not a number/);
    },
  );

  test("reads what base-256 writes, negative and beyond 8 GiB", ({ expect }) => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (value) => {
        expect(number(base256(value, 12), 0, 12, "size")).toBe(value);
      }),
    );
  });

  test("refuses a base-256 number that a double cannot hold", ({ expect }) => {
    const bytes = Buffer.alloc(12, 0xff);
    bytes[0] = 0x80;
    expect(() => number(bytes, 0, 12, "size")).toThrow("size is out of range");
  });
});

describe("parseHeader", () => {
  test("reads back what was written", ({ expect }) => {
    const header = encodeHeader({
      name: "dev/sda",
      type: "4",
      mode: 0o60644,
      uid: 2 ** 31,
      gid: 70_000,
      mtime: -5,
      dev: [8, 300],
    });
    expect(parseHeader(Buffer.concat([Buffer.alloc(7), header]), 7)).toEqual({
      name: "dev/sda",
      mode: 0o60644,
      uid: 2 ** 31,
      gid: 70_000,
      size: 0,
      mtime: -5,
      type: 0x34,
      linkName: "",
      devMajor: 8,
      devMinor: 300,
      gnu: false,
    });
  });

  test("joins ustar's prefix, but takes GNU's fields there for what they are", ({ expect }) => {
    const prefix: [number, Buffer] = [345, Buffer.from("usr/share")];
    expect(parseHeader(encodeHeader({ name: "doc", patch: [prefix] }), 0).name).toBe("usr/share/doc");
    expect(parseHeader(encodeHeader({ name: "doc", magic: "gnu", patch: [prefix] }), 0).name).toBe("doc");
    expect(parseHeader(encodeHeader({ name: "doc", magic: "v7", patch: [prefix] }), 0).name).toBe("doc");
  });

  test("keeps every byte of a name that fills the field", ({ expect }) => {
    const name = Array.from({ length: 100 }, (_, i) => String.fromCharCode(156 + i)).join("");
    expect(parseHeader(encodeHeader({ name }), 0).name).toBe(name);
  });

  test("takes a checksum of signed bytes", ({ expect }) => {
    const header = encodeHeader({ name: "\xe9\xff" });
    const unsigned = Number.parseInt(header.toString("latin1", 148, 154), 8);
    header.write(`${(unsigned - 512).toString(8).padStart(6, "0")}\0 `, 148);
    expect(parseHeader(header, 0).name).toBe("\xe9\xff");
  });

  test("refuses a wrong checksum", ({ expect }) => {
    const header = encodeHeader({ name: "a" });
    header[0] = 0x62;
    expect(() => parseHeader(header, 0)).toThrow(
      /^not a tar header: its checksum is \d+, the bytes sum to \d+$/,
    );
  });
});
