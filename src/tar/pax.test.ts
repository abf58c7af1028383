import fc from "fast-check";
import { describe, test } from "vitest";
import { type PaxAttributes, parsePax } from "./pax.ts";
import { paxRecord } from "./tar-builder.test-helper.ts";

function parse(...records: ReadonlyArray<readonly [string, string | Buffer]>): PaxAttributes {
  const attributes: PaxAttributes = {};
  parsePax(Buffer.concat(records.map(([key, value]) => paxRecord(key, value))), attributes);
  return attributes;
}

describe("parsePax", () => {
  test("keeps attribute values and names of any bytes", ({ expect }) => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.string({ unit: "binary-ascii", minLength: 1 }),
        (value, name) => {
          fc.pre(!/[=%\0]/.test(name));
          const { xattrs } = parse([`SCHILY.xattr.user.${name}`, Buffer.from(value)]);
          expect(xattrs?.get(`user.${name}`)).toEqual(Buffer.from(value));
        },
      ),
    );
  });

  test("decodes of an attribute's name what GNU tar encodes", ({ expect }) => {
    const { xattrs } = parse(["SCHILY.xattr.user.a%3Db%25c%20", "v"], ["SCHILY.xattr.user.%253D", "w"]);
    expect([...(xattrs ?? [])].map(([name]) => name)).toEqual(["user.a=b%c%20", "user.%3D"]);
  });

  test("reads LIBARCHIVE's base64, unless SCHILY's own record is there", ({ expect }) => {
    expect(parse(["LIBARCHIVE.xattr.user.a%25b", "AAH/"]).xattrs?.get("user.a%b")).toEqual(
      Buffer.from([0, 1, 255]),
    );
    expect(
      parse(["SCHILY.xattr.user.a", "raw"], ["LIBARCHIVE.xattr.user.a", "AAH/"]).xattrs?.get("user.a"),
    ).toEqual(Buffer.from("raw"));
  });

  test.for([
    ["1700000000.123456789", { sec: 1_700_000_000, nsec: 123_456_789 }],
    ["1700000000", { sec: 1_700_000_000, nsec: 0 }],
    ["1.5", { sec: 1, nsec: 500_000_000 }],
    ["1.1234567899", { sec: 1, nsec: 123_456_789 }],
    ["-1.25", { sec: -2, nsec: 750_000_000 }],
    ["-0.000000001", { sec: -1, nsec: 999_999_999 }],
    ["-3", { sec: -3, nsec: 0 }],
  ] as const)("reads the time %s", ([text, time], { expect }) => {
    expect(parse(["mtime", text]).mtime).toEqual(time);
  });

  test("an empty value takes back what a global header said", ({ expect }) => {
    expect(parse(["uid", "5"], ["path", "a"], ["uid", ""], ["path", ""])).toEqual({});
  });

  test("ignores keys it does not know", ({ expect }) => {
    expect(parse(["comment", "x"], ["SCHILY.acl.other", "user::rwx"])).toEqual({});
  });

  test.for([
    ["no length", "path=a\n", "PAX header is malformed at byte 0"],
    ["no newline", "9 path=ab", "PAX header is malformed at byte 0"],
    ["length beyond the end", "99 path=a\n", "PAX header is malformed at byte 0"],
    ["length 0", "0 path=a\n", "PAX header is malformed at byte 0"],
    ["no equals sign", "7 path\n", "PAX header is malformed at byte 0"],
    ["a second record cut short", "9 uid=12\n12 path", "PAX header is malformed at byte 9"],
    ["NUL in a path", "11 path=a\0\n", "PAX path contains a NUL byte"],
    ["a size that is no number", "12 size=1e3\n", 'PAX size is not a number: "1e3"'],
    ["a negative uid", "10 uid=-1\n", 'PAX uid is not a number: "-1"'],
    ["a time that is none", "14 mtime=now!\n", 'PAX mtime is not a time: "now!"'],
    ["an attribute without a name", "18 SCHILY.xattr.=\n", "PAX header has an attribute without a name"],
  ] as const)("refuses %s", ([, text, message], { expect }) => {
    expect(() => parsePax(Buffer.from(text, "latin1"), {})).toThrow(message);
  });
});
