import fc from "fast-check";
import { describe, test } from "vitest";
import type { Xattr } from "../../tar/pax.ts";
import { encodeAcl, encodeXattrs, XattrError } from "./xattr.ts";

const PREFIX_OF: Readonly<Record<number, string>> = {
  1: "user.",
  4: "trusted.",
  6: "security.",
  7: "system.",
};

/** Reads entries from `start` on; offsets of values count from `base`. */
function decode(bytes: Buffer | undefined, start: number, base: number): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  if (bytes === undefined) return found;
  for (let at = start; bytes.readUInt32LE(at) !== 0; at += 16 + ((bytes.readUInt8(at) + 3) & ~3)) {
    const name = bytes.toString("latin1", at + 16, at + 16 + bytes.readUInt8(at));
    const value = base + bytes.readUInt16LE(at + 2);
    found.set(
      `${PREFIX_OF[bytes.readUInt8(at + 1)]}${name}`,
      bytes.subarray(value, value + bytes.readUInt32LE(at + 8)),
    );
  }
  return found;
}

const xattr = (name: string, length: number): Xattr => ({ name, value: Buffer.alloc(length, "v") });

describe("encodeXattrs", () => {
  test("read back what was put in, wherever it went", ({ expect }) => {
    const name = fc
      .tuple(
        fc.constantFrom("user.", "trusted.", "security."),
        fc.string({ unit: fc.constantFrom("a", "b", "\xe9", "."), minLength: 1, maxLength: 40 }),
      )
      .map(([prefix, rest]) => prefix + rest);
    fc.assert(
      fc.property(fc.dictionary(name, fc.uint8Array({ maxLength: 80 }), { maxKeys: 15 }), (set) => {
        const xattrs = Object.entries(set).map(([key, value]) => ({ name: key, value: Buffer.from(value) }));
        const { inode, block } = encodeXattrs(xattrs);
        const found = new Map([...decode(inode, 4, 4), ...decode(block, 32, 0)]);
        expect(found).toEqual(new Map(xattrs.map((each) => [each.name, each.value])));
      }),
    );
  });

  // 96 bytes in the inode: magic 4, end mark 4, entry 16, name 4.
  test.for([
    [68, true],
    [69, false],
  ] as const)("a value of %i bytes is in the inode: %s", ([length, inside], { expect }) => {
    const { inode, block } = encodeXattrs([xattr("user.abcd", length)]);
    expect([inode !== undefined, block === undefined]).toEqual([inside, inside]);
  });

  // 4096 bytes: header 32, end mark 4, entry 16, name 4.
  test("a block takes 4040 bytes and not one more", ({ expect }) => {
    expect(encodeXattrs([xattr("user.abcd", 4040)]).block).toHaveLength(4096);
    expect(() => encodeXattrs([xattr("user.abcd", 4041)])).toThrow(XattrError);
    expect(() => encodeXattrs([xattr("user.abcd", 4041)])).toThrow(
      "extended attributes take 4100 bytes, ext4 has room for 4096",
    );
  });

  test("a name takes 255 bytes after its prefix and not one more", ({ expect }) => {
    expect(encodeXattrs([xattr(`user.${"n".repeat(255)}`, 1)]).block).toBeDefined();
    expect(() => encodeXattrs([xattr(`user.${"n".repeat(256)}`, 1)])).toThrow("attribute name of 256 bytes");
  });

  test("names outside ext4's namespaces are left out", ({ expect }) => {
    expect(encodeXattrs([xattr("com.apple.quarantine", 5), xattr("user.", 5), xattr("users.x", 1)])).toEqual({
      inode: undefined,
      block: undefined,
    });
  });
});

describe("encodeAcl", () => {
  const entry = (tag: number, permissions: number, id: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16LE(tag, 0);
    bytes.writeUInt16LE(permissions, 2);
    bytes.writeUInt32LE(id, 4);
    return bytes;
  };
  const version = (value: number) => Buffer.from([value, 0, 0, 0]);

  test("drops the ids of entries that have none", ({ expect }) => {
    const none = 0xffff_ffff;
    const acl = Buffer.concat([
      version(2),
      entry(1, 6, none),
      entry(2, 4, 1000),
      entry(4, 4, none),
      entry(8, 5, 70_000),
      entry(0x10, 7, none),
      entry(0x20, 0, none),
    ]);
    expect(encodeAcl(acl)).toEqual(
      Buffer.concat([
        version(1),
        entry(1, 6, none).subarray(0, 4),
        entry(2, 4, 1000),
        entry(4, 4, none).subarray(0, 4),
        entry(8, 5, 70_000),
        entry(0x10, 7, none).subarray(0, 4),
        entry(0x20, 0, none).subarray(0, 4),
      ]),
    );
  });

  test.for([
    ["nothing", Buffer.alloc(0)],
    ["another version", Buffer.concat([version(1), entry(1, 6, 0)])],
    ["half an entry", Buffer.concat([version(2), entry(1, 6, 0).subarray(0, 4)])],
    ["an unknown tag", Buffer.concat([version(2), entry(3, 6, 0)])],
  ] as const)("refuses %s", ([, bytes], { expect }) => {
    expect(() => encodeAcl(bytes)).toThrow(XattrError);
  });
});
