import fc from "fast-check";
import { describe, test } from "vitest";
import type { Xattr } from "../../tar/pax.ts";
import {
  attributesOutside,
  checksumSeed,
  checkXattrs,
  encodeAcl,
  encodeInBlock,
  encodeInInode,
  largeValues,
  MAX_VALUE_BYTES,
  valueHash,
  XattrError,
} from "./xattr.ts";

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

const encode = (xattrs: readonly Xattr[], numbers: readonly number[] = []) => ({
  inode: encodeInInode(xattrs),
  block: encodeInBlock(xattrs, { numbers, seed: 0 }),
});

const xattr = (name: string, length: number): Xattr => ({ name, value: Buffer.alloc(length, "v") });

describe("attributes", () => {
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
        const { inode, block } = encode(xattrs);
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
    const { inode, block } = encode([xattr("user.abcd", length)]);
    expect([inode !== undefined, block === undefined]).toEqual([inside, inside]);
  });

  // 4096 bytes: header 32, end mark 4, entry 16, name 4.
  test("a block takes 4040 bytes; one more, and the value has an inode of its own", ({ expect }) => {
    const fits = [xattr("user.abcd", 4040)];
    expect(largeValues(fits)).toEqual([]);
    expect(encode(fits).block).toHaveLength(4096);
    const large = [xattr("user.abcd", 4041)];
    expect(largeValues(large)).toEqual([large[0]?.value]);
    const { block } = encode(large, [77]);
    // e_value_offs 0, e_value_inum, e_value_size
    expect([block?.readUInt16LE(34), block?.readUInt32LE(36), block?.readUInt32LE(40)]).toEqual([
      0, 77, 4041,
    ]);
  });

  test("only as many values leave the block as must, the largest first", ({ expect }) => {
    const set = [xattr("user.a", 2000), xattr("user.b", 3000), xattr("user.c", 1000), xattr("user.d", 60)];
    expect(largeValues(set).map((value) => value.length)).toEqual([3000]);
    expect(attributesOutside(set).map(({ name }) => name)).toEqual(["user.a", "user.b", "user.c"]);
  });

  test("a value takes 65536 bytes and not one more", ({ expect }) => {
    expect(largeValues([xattr("user.a", MAX_VALUE_BYTES)])).toHaveLength(1);
    expect(() => checkXattrs([xattr("user.a", MAX_VALUE_BYTES + 1)])).toThrow(
      "attribute user.a of 65537 bytes, at most 65536 fit",
    );
  });

  test("as many attributes as there is room for in the inode and the block", ({ expect }) => {
    // In the inode 92 bytes take four of 20, the block 4060 takes 203.
    const set = (count: number) => Array.from({ length: count }, (_, i) => xattr(`user.${1000 + i}`, 0));
    const { inode, block } = encode(set(207));
    expect(decode(inode, 4, 4).size + decode(block, 32, 0).size).toBe(207);
    expect(() => checkXattrs(set(208))).toThrow(XattrError);
    expect(() => checkXattrs(set(208))).toThrow("take 4116 bytes, at most 4096 fit");
  });

  test("the checksum of a value is the kernel's crc32c", ({ expect }) => {
    // Nothing inverted, unlike the check value e3069283 of the usual CRC-32C.
    expect(valueHash(Buffer.from("123456789"), 0xffff_ffff)).toBe(~0xe306_9283 >>> 0);
    expect(checksumSeed(Buffer.from("123456789"))).toBe(~0xe306_9283 >>> 0);
  });

  test("a name takes 255 bytes after its prefix and not one more", ({ expect }) => {
    expect(encode([xattr(`user.${"n".repeat(255)}`, 1)]).block).toBeDefined();
    expect(() => encode([xattr(`user.${"n".repeat(256)}`, 1)])).toThrow("attribute name of 256 bytes");
  });

  test("names outside ext4's namespaces are left out", ({ expect }) => {
    expect(encode([xattr("com.apple.quarantine", 5), xattr("user.", 5), xattr("users.x", 1)])).toEqual({
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
