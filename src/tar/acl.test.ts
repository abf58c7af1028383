import { describe, test } from "vitest";
import { parseAcl } from "./acl.ts";

/** The entries of an attribute's value as tag, permissions and id. */
function entriesOf(value: Buffer | undefined): Array<readonly [number, number, number]> | undefined {
  if (value === undefined) return undefined;
  if (value.readUInt32LE(0) !== 2) throw new Error("not version 2");
  return Array.from({ length: (value.length - 4) / 8 }, (_, i) => [
    value.readUInt16LE(4 + 8 * i),
    value.readUInt16LE(6 + 8 * i),
    value.readUInt32LE(8 + 8 * i),
  ]);
}

const NONE = 0xffff_ffff;

describe("parseAcl", () => {
  test.for([
    [
      "GNU tar's lines, put in order",
      "user::rw-\nuser:70000:rwx\nuser:root:r--\ngroup::r--\ngroup:5:---\nmask::rwx\nother::r--\n",
      [
        [0x01, 6, NONE],
        [0x02, 4, 0],
        [0x02, 7, 70_000],
        [0x04, 4, NONE],
        [0x08, 0, 5],
        [0x10, 7, NONE],
        [0x20, 4, NONE],
      ],
    ],
    [
      "star's commas and numbers in the fourth field",
      "user::rwx,user:lisa:r-x:502,group::r-x,mask:r-x,other:r-x",
      [
        [0x01, 7, NONE],
        [0x02, 5, 502],
        [0x04, 5, NONE],
        [0x10, 5, NONE],
        [0x20, 5, NONE],
      ],
    ],
    [
      "short tags, prefixes, comments",
      "default:u::rw-,d:g::r--,d:m::rwx\t#effective:r--\nd:o::--- ",
      [
        [0x01, 6, NONE],
        [0x04, 4, NONE],
        [0x10, 7, NONE],
        [0x20, 0, NONE],
      ],
    ],
  ] as const)("%s", ([, text, entries], { expect }) => {
    expect(entriesOf(parseAcl(text, "access"))).toEqual(entries);
  });

  test("one that says what the mode says is none, unless it is a default", ({ expect }) => {
    const text = "user::rw-,group::r--,other::r--";
    expect(parseAcl(text, "access")).toBeUndefined();
    expect(entriesOf(parseAcl(text, "default"))).toHaveLength(3);
  });

  test("passes over any number of commas, and has as many entries as the kernel takes", ({ expect }) => {
    const basic = "user::rw-,group::r--,mask::r--,other::r--";
    const users = (count: number) => Array.from({ length: count }, (_, i) => `user:${i}:r--`).join(",");
    expect(entriesOf(parseAcl(`${basic}${",\n".repeat(500_000)}`, "access"))).toHaveLength(4);
    expect(parseAcl(`${basic},${users(8187)}`, "access")).toHaveLength(4 + 8 * 8191);
    expect(() => parseAcl(`${basic},${users(8188)}`, "access")).toThrow("an ACL has more than 8191 entries");
  });

  test.for([
    ["", "an ACL lacks user, group or other"],
    ["user::rw-,group::r--", "an ACL lacks user, group or other"],
    ["user::rw-,user:1:r--,group::r--,other::r--", "an ACL lacks its mask"],
    ["user::rw-,group::r--,other::r--,mask::r--,mask::r--", "an ACL has an entry twice"],
    ["user::rw-,group::r--,other::r--,user:1:r--,user:1:rw-,mask::r--", "an ACL has an entry twice"],
    ["user::rwz", 'an ACL entry is malformed: "user::rwz"'],
    ["user::", 'an ACL entry is malformed: "user::"'],
    ["owner::rwx", 'an ACL entry is malformed: "owner::rwx"'],
    ["mask:5:rwx", 'an ACL entry is malformed: "mask:5:rwx"'],
    ["user:a:rwx:1:2", 'an ACL entry is malformed: "user:a:rwx:1:2"'],
    ["user:lisa:rwx", 'an ACL names "lisa" and not its number'],
    ["user:4294967295:rwx", 'an ACL names "4294967295" and not its number'],
    ["constructor::rwx", "an ACL entry is malformed"],
  ] as const)("refuses %j", ([text, message], { expect }) => {
    expect(() => parseAcl(text, "access")).toThrow(message);
  });
});
