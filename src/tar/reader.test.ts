import fc from "fast-check";
import { describe, test } from "vitest";
import { MAX_META_BYTES, type TarEntry, TarReader } from "./reader.ts";
import {
  base256,
  dir,
  encodeEntry,
  encodeHeader,
  file,
  hardLink,
  paxRecord,
  symlink,
  type TestEntry,
  tarOf,
} from "./tar-builder.test-helper.ts";

interface Read {
  readonly entry: TarEntry;
  readonly data: string;
}

function read(bytes: Buffer, chunkSizes: readonly number[] = [bytes.length]): Read[] {
  const found: Array<{ entry: TarEntry; data: string }> = [];
  const reader = new TarReader("sha256:abc", {
    entry(entry) {
      found.push({ entry, data: "" });
      return true;
    },
    data(piece) {
      const last = found.at(-1);
      if (last !== undefined) last.data += piece.toString("latin1");
    },
    end() {},
  });
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = chunkSizes[i % chunkSizes.length] ?? bytes.length;
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  reader.finish();
  return found;
}

const SAMPLE: readonly TestEntry[] = [
  dir("etc/"),
  file("etc/passwd", "root:x:0:0\n", {
    pax: [
      ["mtime", "1700000000.5"],
      ["SCHILY.xattr.user.k", Buffer.from([0, 128])],
    ],
  }),
  file("big", "x".repeat(5000)),
  symlink("link", "etc/passwd"),
  hardLink("hard", "big"),
  { name: "null", type: "3", dev: [1, 3] },
  { name: "pipe", type: "6" },
  file("empty", ""),
];

describe("TarReader", () => {
  test("finds the same whatever the pieces it is given", ({ expect }) => {
    const bytes = tarOf(SAMPLE);
    const whole = read(bytes);
    expect(whole.map(({ entry, data }) => [entry.path, entry.type, data.length])).toEqual([
      ["etc/", "directory", 0],
      ["etc/passwd", "file", 11],
      ["big", "file", 5000],
      ["link", "symlink", 0],
      ["hard", "link", 0],
      ["null", "character-device", 0],
      ["pipe", "fifo", 0],
      ["empty", "file", 0],
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 20 }), (sizes) => {
        expect(read(bytes, sizes)).toEqual(whole);
      }),
    );
  });

  test("a PAX header reaches over long-name headers to its entry, not to them", ({ expect }) => {
    const long = "n".repeat(150);
    const bytes = Buffer.concat([
      encodeHeader({ name: "PaxHeader", type: "x", size: paxRecord("size", "3").length }),
      Buffer.concat([paxRecord("size", "3")], 512),
      encodeEntry({ name: "././@LongLink", type: "L", data: `${long}\0`, magic: "gnu" }),
      encodeEntry({ name: "././@LongLink", type: "K", data: `${long}k\0`, magic: "gnu" }),
      encodeHeader({ name: "short", size: 0 }),
      Buffer.concat([Buffer.from("abc")], 512),
      tarOf([file("next", "n")]),
    ]);
    const [first, second] = read(bytes);
    expect(first?.entry).toMatchObject({ path: long, linkPath: `${long}k`, size: 3 });
    expect(first?.data).toBe("abc");
    expect(second).toMatchObject({ data: "n", entry: { path: "next", linkPath: "" } });
  });

  const global = (...records: ReadonlyArray<readonly [string, string]>) =>
    encodeEntry({
      name: "pax_global_header",
      type: "g",
      data: Buffer.concat(records.map(([key, value]) => paxRecord(key, value))),
    });

  test("a global header says nothing of the entries, as to Docker and containerd", ({ expect }) => {
    const records = [
      ["uid", "77"],
      ["path", "elsewhere"],
      ["size", "1"],
      ["SCHILY.xattr.security.capability", "all"],
      ["SCHILY.acl.access", "user::rwx,user:7:r--,group::r--,mask::r--,other::---"],
      ["GNU.sparse.map", "0,1"],
    ] as const;
    const rest = tarOf([file("a"), file("b", "b", { pax: [["uid", "5"]] }), file("c")]);
    const entries = read(Buffer.concat([global(...records), rest]), [700, 1]);
    expect(entries).toEqual(read(rest));
    expect(entries.map(({ entry }) => entry.uid)).toEqual([0, 5, 0]);
  });

  test("a global header takes what stands before it, as to Go's reader", ({ expect }) => {
    const local = encodeEntry({ name: "p", type: "x", data: paxRecord("path", "b") });
    const long = encodeEntry({ name: "././@LongLink", type: "L", data: "long\0", magic: "gnu" });
    const bytes = Buffer.concat([local, long, global(["uid", "77"]), tarOf([file("a")])]);
    expect(read(bytes).map(({ entry }) => entry.path)).toEqual(["a"]);
    expect(read(Buffer.concat([local, global()]))).toEqual([]);
    expect(() => read(global(["comment", "c".repeat(600)]).subarray(0, 1024))).toThrow("middle of an entry");
  });

  test("a V7 name with a slash at its end is a directory", ({ expect }) => {
    const [entry] = read(tarOf([{ name: "d/", type: "\0", magic: "v7" }]));
    expect(entry?.entry.type).toBe("directory");
  });

  test("links take no data whatever size they claim", ({ expect }) => {
    const names = read(tarOf([{ ...hardLink("h", "t"), size: 4096 }, file("t")])).map(
      ({ entry }) => entry.path,
    );
    expect(names).toEqual(["h", "t"]);
  });

  test("reads the old GNU sparse map, extended blocks too", ({ expect }) => {
    const pairs = Array.from({ length: 30 }, (_, i) => [i * 8192, 1] as const);
    const encode = (some: typeof pairs) =>
      Buffer.concat(some.flatMap(([offset, length]) => [base256(offset, 12), base256(length, 12)]));
    const extension = Buffer.alloc(1024);
    encode(pairs.slice(4, 25)).copy(extension);
    extension[504] = 1;
    encode(pairs.slice(25)).copy(extension, 512);
    const header = encodeHeader({
      name: "sparse",
      type: "S",
      magic: "gnu",
      size: 30,
      patch: [
        [386, encode(pairs.slice(0, 4))],
        [482, Buffer.from([1])],
        [483, base256(300_000, 12)],
      ],
    });
    const data = Buffer.concat([Buffer.from("y".repeat(30))], 512);
    const [entry, next] = read(Buffer.concat([header, extension, data, tarOf([file("next")])]));
    expect(entry?.entry.size).toBe(300_000);
    expect(entry?.entry.sparse).toHaveLength(30);
    expect(entry?.entry.sparse?.[29]).toEqual({ offset: 29 * 8192, length: 1 });
    expect(entry?.data).toBe("y".repeat(30));
    expect(next?.entry.path).toBe("next");
  });

  test.for([
    [
      "0.0",
      [
        ["GNU.sparse.size", "9000"],
        ["GNU.sparse.numblocks", "1"],
        ["GNU.sparse.offset", "8192"],
        ["GNU.sparse.numbytes", "3"],
      ],
      "abc",
    ],
    [
      "0.1",
      [
        ["GNU.sparse.size", "9000"],
        ["GNU.sparse.map", "8192,3"],
        ["GNU.sparse.name", "f"],
      ],
      "abc",
    ],
    [
      "1.0",
      [
        ["GNU.sparse.major", "1"],
        ["GNU.sparse.minor", "0"],
        ["GNU.sparse.realsize", "9000"],
        ["GNU.sparse.name", "f"],
      ],
      `1\n8192\n3\n${"\0".repeat(503)}abc`,
    ],
  ] as const)("reads PAX sparse format %s", ([, pax, data], { expect }) => {
    const [entry] = read(tarOf([file("f", data, { pax })]));
    expect(entry?.entry).toMatchObject({ path: "f", size: 9000, sparse: [{ offset: 8192, length: 3 }] });
    expect(entry?.data).toBe("abc");
  });

  const sparse = (map: string, size = "100", data = "abc") =>
    tarOf([
      file("s", data, {
        pax: [
          ["GNU.sparse.size", size],
          ["GNU.sparse.map", map],
        ],
      }),
    ]);
  const brokenV1 = (data: string) =>
    tarOf([
      file("s", data, {
        pax: [
          ["GNU.sparse.major", "1"],
          ["GNU.sparse.minor", "0"],
        ],
      }),
    ]);

  test.for<[string, Buffer, string]>([
    [
      "truncated data",
      tarOf([file("a", "x".repeat(600))]).subarray(0, 800),
      'entry "a": the archive ends in the middle of an entry',
    ],
    ["truncated header", tarOf([file("a")]).subarray(0, 700 + 512), "the archive ends in the middle"],
    [
      "PAX without its entry",
      encodeEntry({ name: "p", type: "x", data: paxRecord("path", "b") }),
      'entry "b": the archive ends in the middle of an entry',
    ],
    ["no tar at all", Buffer.alloc(2048, "a"), "not a tar header: its checksum is no number"],
    ["a lone zero block", Buffer.concat([Buffer.alloc(512), tarOf([file("a")])]), "a lone zero block"],
    ["a negative size", tarOf([file("a", "", { size: -5 })]), "the size is negative: -5"],
    [
      "a huge PAX header",
      encodeHeader({ name: "p", type: "x", size: MAX_META_BYTES + 1 }),
      "an extended header of 1048577 bytes",
    ],
    ["an unknown type", tarOf([{ name: "q", type: "Z" }]), 'entry "q": entries of type "Z" are not known'],
    ["a sparse map out of order", sparse("10,2,5,1"), "sparse map is wrong: 1 bytes at 5"],
    ["a sparse map beyond the end", sparse("98,3"), "sparse map is wrong: 3 bytes at 98 in a file of 100"],
    ["a sparse map of less data", sparse("0,2"), "sparse map names 2 bytes of data, the entry has 3"],
    ["a sparse map of an odd length", sparse("0"), "an offset without a length"],
    ["a sparse map without an end", brokenV1("5\n1\n2\n"), "sparse map is longer than the entry"],
    ["a sparse map without numbers", brokenV1("x".repeat(512)), "something that is not a number"],
    [
      "a sparse map of too many segments",
      brokenV1("99999999\n".padEnd(512)),
      "sparse map has too many segments",
    ],
  ])("refuses %s, naming the layer", ([, bytes, message], { expect }) => {
    expect(() => read(bytes)).toThrow(expect.objectContaining({ code: "LAYER_INVALID" }));
    expect(() => read(bytes)).toThrow("layer sha256:abc");
    expect(() => read(bytes)).toThrow(message);
  });

  test.for([
    ["in base 256", file("huge", "", { size: 9 * 2 ** 30 })],
    ["in PAX", file("huge", "", { size: 0, pax: [["size", String(9 * 2 ** 30)]] })],
  ] as const)("passes over a file of 9 GiB, its size %s", ([, entry], { expect }) => {
    const found: Array<readonly [string, number]> = [];
    const reader = new TarReader("layer", {
      entry: ({ path, size }) => found.push([path, size]) < 0,
      data: () => {
        throw new Error("nobody wants it");
      },
      end: () => {},
    });
    reader.push(encodeEntry(entry));
    const chunk = Buffer.alloc(1 << 20);
    for (let i = 0; i < 9 * 1024; i++) reader.push(chunk);
    reader.push(tarOf([file("next")]));
    reader.finish();
    expect(found).toEqual([
      ["huge", 9 * 2 ** 30],
      ["next", 4],
    ]);
  });

  test("many headers of one entry are not all read, whatever they hold", ({ expect }) => {
    const reader = new TarReader("layer", { entry: () => false, data: () => {}, end: () => {} });
    const header = (key: string) =>
      encodeEntry({ name: "p", type: "x", data: paxRecord(key, Buffer.alloc(1_000_000)) });
    for (const name of ["a", "b", "c"]) {
      for (let i = 0; i < 4; i++) reader.push(header(`SCHILY.xattr.user.${i}`));
      for (let i = 0; i < 4; i++) reader.push(header("SCHILY.acl.access"));
      reader.push(encodeEntry(file(name)));
    }
    for (let i = 0; i < 8; i++) reader.push(header("comment"));
    expect(() => reader.push(header("comment"))).toThrow(
      "extended headers of one entry take 9000153 bytes, at most 8388608 are read",
    );
  });

  test("an ACL given as text counts unless its attribute is there too", ({ expect }) => {
    const text = "user::rwx,user:7:r--,group::r--,mask::r--,other::---";
    const acl = ["SCHILY.acl.access", text] as const;
    const xattr = ["SCHILY.xattr.system.posix_acl_access", "exact"] as const;
    const byName = ["SCHILY.acl.access", text.replace("7", "lisa")] as const;
    const xattrs = (pax: TestEntry["pax"] = []) => read(tarOf([file("a", "", { pax })]))[0]?.entry.xattrs;
    expect(xattrs([acl])).toMatchObject([{ name: "system.posix_acl_access" }]);
    expect(xattrs([byName, xattr])).toEqual([
      { name: "system.posix_acl_access", value: Buffer.from("exact") },
    ]);
    expect(xattrs([["SCHILY.acl.access", "user::rwx,group::r--,other::---"]])).toBeUndefined();
  });

  test("an ACL that cannot be kept is left out, and told of", ({ expect }) => {
    const told: string[] = [];
    const found: TarEntry[] = [];
    const reader = new TarReader("layer", {
      entry: (entry) => found.push(entry) < 0,
      data: () => {},
      end: () => {},
      aclPassedOver: (entry, problem) => told.push(`${entry}: ${problem}`),
    });
    const whole = "user::rwx,user:7:r--,group::r--,mask::r--,other::---";
    const withAcls = (name: string, access: string, others: TestEntry["pax"] = []) =>
      file(name, "", { pax: [["SCHILY.acl.access", access], ...others] });
    reader.push(
      tarOf([
        withAcls("a", whole.replace("7", "lisa"), [["SCHILY.acl.default", whole]]),
        withAcls("b", "nonsense", [["SCHILY.xattr.system.posix_acl_access", "exact"]]),
        withAcls("c", "nonsense", [["SCHILY.acl.access", ""]]),
        withAcls("d", "nonsense", [["SCHILY.xattr.user.a", "1"]]),
      ]),
    );
    expect(found.map(({ xattrs }) => xattrs?.map(({ name }) => name))).toEqual([
      ["system.posix_acl_default"],
      ["system.posix_acl_access"],
      undefined,
      ["user.a"],
    ]);
    expect(told).toEqual([
      expect.stringMatching(/^a: an ACL names "lisa" and not its number/),
      'd: an ACL entry is malformed: "nonsense"',
    ]);
  });

  test("takes archives without their end marker, nothing, and rubbish after the end", ({ expect }) => {
    expect(read(encodeEntry(file("a")))).toHaveLength(1);
    expect(read(Buffer.alloc(0))).toEqual([]);
    expect(read(Buffer.concat([tarOf([file("a")]), Buffer.alloc(3000, "z")]))).toHaveLength(1);
  });

  test("never crashes in another way, whatever the bytes", ({ expect }) => {
    const bytes = tarOf(SAMPLE);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }),
        (changes) => {
          const damaged = Buffer.from(bytes);
          for (const [at, value] of changes) damaged[at] = value;
          try {
            read(damaged);
          } catch (error) {
            expect(error).toMatchObject({ code: "LAYER_INVALID" });
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
