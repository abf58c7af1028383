import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { describe, test } from "vitest";
import { findExecutable } from "../host/files.ts";
import { runProgram } from "../host/process.ts";
import { BARE_ENTRY, type EntryType, type TarEntry, TarReader } from "./reader.ts";
import { encodeHeaders, paddingAfter, storedSize, type TarContent, writeTar } from "./writer.ts";

const PLAIN: TarEntry = {
  ...BARE_ENTRY,
  path: "file",
  type: "file",
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeSec: 1_700_000_000,
  mtimeNsec: 0,
  atimeSec: 1_700_000_000,
  atimeNsec: 0,
};

function entryOf(fields: Partial<TarEntry>): TarEntry {
  const { mtimeSec = PLAIN.mtimeSec, mtimeNsec = 0 } = fields;
  return { ...PLAIN, atimeSec: mtimeSec, atimeNsec: mtimeNsec, ...fields };
}

/** What our reader makes of the bytes. */
function read(bytes: Buffer): Array<{ entry: TarEntry; data: string }> {
  const found: Array<{ entry: TarEntry; data: string }> = [];
  const reader = new TarReader("test", {
    entry: (entry) => found.push({ entry, data: "" }) > 0,
    data(piece) {
      const last = found.at(-1);
      if (last !== undefined) last.data += piece.toString("latin1");
    },
    end() {},
  });
  reader.push(bytes);
  reader.finish();
  return found;
}

/** The headers alone, read as the entry that they begin. */
function readHeaders(entry: TarEntry): TarEntry | undefined {
  let found: TarEntry | undefined;
  const reader = new TarReader("test", {
    entry(each) {
      found = each;
      return false;
    },
    data() {},
    end() {},
  });
  reader.push(encodeHeaders(entry));
  return found;
}

async function archive(contents: readonly TarContent[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeTar(contents)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const blocks = (entry: Partial<TarEntry>) => encodeHeaders(entryOf(entry)).length / 512;

describe("writeTar", () => {
  const name = fc
    .array(
      fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
      {
        minLength: 1,
        maxLength: 300,
      },
    )
    .map((parts) => parts.join(""))
    .filter((text) => !text.endsWith("/"));
  const segments = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 1, max: 700 })), {
      maxLength: 60,
    })
    .map((pairs) => {
      let at = 0;
      return pairs.map(([hole, length]) => {
        const offset = at + hole;
        at = offset + length;
        return { offset, length };
      });
    });
  const xattr = fc.record({
    name: fc.stringMatching(/^user\.[a-z=%.\x80-\xff]{1,20}$/),
    value: fc.uint8Array({ maxLength: 1200 }).map((bytes) => Buffer.from(bytes)),
  });
  const entry = fc
    .record({
      path: name,
      type: fc.constantFrom<EntryType>("file", "directory", "symlink", "link", "block-device", "fifo"),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.oneof(fc.nat(3000), fc.integer({ min: 2_097_150, max: 2 ** 32 - 1 })),
      gid: fc.oneof(fc.nat(3000), fc.integer({ min: 2_097_150, max: 2 ** 32 - 1 })),
      mtimeSec: fc.oneof(fc.integer(), fc.integer({ min: -(2 ** 34), max: 2 ** 34 })),
      mtimeNsec: fc.oneof(fc.constant(0), fc.nat(999_999_999)),
      linkPath: name,
      devMajor: fc.nat(4095),
      devMinor: fc.oneof(fc.nat(255), fc.integer({ min: 0, max: 2 ** 32 - 1 })),
      xattrs: fc.option(
        fc.uniqueArray(xattr, { selector: (each) => each.name, minLength: 1, maxLength: 4 }),
        { nil: undefined },
      ),
      sparse: fc.option(segments, { nil: undefined }),
      data: fc.uint8Array({ maxLength: 1500 }),
      tail: fc.nat(5000),
    })
    .map(({ data, tail, sparse, ...fields }) => {
      const isFile = fields.type === "file";
      const isLink = fields.type === "symlink" || fields.type === "link";
      const last = sparse?.at(-1);
      const stored = sparse?.reduce((total, { length }) => total + length, 0) ?? data.length;
      const size = sparse === undefined ? stored : (last?.offset ?? 0) + (last?.length ?? 0) + tail;
      return {
        entry: entryOf({
          ...fields,
          ...(isLink ? {} : { linkPath: "" }),
          ...(fields.type === "block-device" ? {} : { devMajor: 0, devMinor: 0 }),
          size: isFile ? size : 0,
          sparse: isFile ? sparse : undefined,
        }),
        data: isFile ? [Buffer.alloc(stored, data.length % 251)] : [],
      };
    });

  test("writes what our reader reads back, whatever the entry", async ({ expect }) => {
    const check = async (contents: readonly TarContent[]) => {
      const bytes = await archive(contents);
      expect(bytes.length % 512).toBe(0);
      expect(bytes.equals(await archive(contents))).toBe(true);
      const expected = contents.map((content) => ({
        entry:
          content.entry.type === "directory"
            ? { ...content.entry, path: `${content.entry.path}/` }
            : content.entry,
        data: Array.isArray(content.data) ? Buffer.concat(content.data).toString("latin1") : "",
      }));
      expect(read(bytes)).toEqual(expected);
    };
    await fc.assert(fc.asyncProperty(fc.array(entry, { maxLength: 4 }), check), { numRuns: 150 });
  });

  test.for([
    ["shorter", [Buffer.alloc(6)], "file: 7 bytes of data were expected, 6 came"],
    ["longer", [Buffer.alloc(6), Buffer.alloc(2)], "file: 7 bytes of data were expected, more came"],
    ["missing", undefined, "file: 7 bytes of data were expected, 0 came"],
  ] as const)("refuses data that is %s than the entry says", async ([, data, message], { expect }) => {
    await expect(archive([{ entry: entryOf({ size: 7 }), data }])).rejects.toThrow(message);
  });
});

describe("encodeHeaders", () => {
  const segment = "d".repeat(50);
  test.for<readonly [what: string, entry: Partial<TarEntry>, blocks: number]>([
    ["a name of 100 bytes", { path: "n".repeat(100) }, 1],
    ["a name of 101 bytes without a slash", { path: "n".repeat(101) }, 3],
    ["a name of 155 + 1 + 100", { path: `${"p".repeat(155)}/${"n".repeat(100)}` }, 1],
    ["a name of 156 + 1 + 99", { path: `${"p".repeat(156)}/${"n".repeat(99)}` }, 3],
    ["a prefix that ends in a slash", { path: `${segment}/${segment}//${"n".repeat(99)}` }, 1],
    ["a directory of 100 bytes with its slash", { path: "n".repeat(99), type: "directory" }, 1],
    ["a directory of 101 bytes with its slash", { path: "n".repeat(100), type: "directory" }, 3],
    ["a name beyond ASCII", { path: "\xc3\xa9" }, 3],
    ["a link of 100 bytes", { type: "symlink", linkPath: "l".repeat(100) }, 1],
    ["a link of 101 bytes", { type: "symlink", linkPath: "l".repeat(101) }, 3],
    ["an id of 21 bits", { uid: 2_097_151, gid: 2_097_151 }, 1],
    ["an id of 22 bits", { uid: 2_097_152 }, 3],
    ["one byte less than 8 GiB", { size: 8 ** 11 - 1 }, 1],
    ["8 GiB", { size: 8 ** 11 }, 3],
    ["the epoch", { mtimeSec: 0 }, 1],
    ["before the epoch", { mtimeSec: -1 }, 3],
    ["the last second of eleven digits", { mtimeSec: 8 ** 11 - 1 }, 1],
    ["the second after", { mtimeSec: 8 ** 11 }, 3],
    ["a nanosecond", { mtimeNsec: 1 }, 3],
    ["an access time of its own", { atimeSec: 5 }, 3],
  ])("%s takes the header it needs and no more", ([, fields, count], { expect }) => {
    expect(blocks(fields)).toBe(count);
    const entry = entryOf(fields);
    const slash = entry.type === "directory" ? "/" : "";
    expect(readHeaders(entry)).toEqual({ ...entry, path: `${entry.path}${slash}` });
  });

  test("counts the digits of a record's length in it", ({ expect }) => {
    for (let length = 1; length < 1100; length++) {
      const entry = entryOf({ path: `\xe9${"n".repeat(length)}` });
      expect(readHeaders(entry)).toEqual(entry);
    }
  });

  test("gives an unnamed number what base-256 can hold", ({ expect }) => {
    const entry = entryOf({ type: "character-device", devMajor: 2_097_152, devMinor: 2 ** 32 - 1, uid: -2 });
    expect(readHeaders(entry)).toEqual(entry);
  });
});

const tar = await findExecutable("tar", process.env["PATH"] ?? "");
const asRoot = process.getuid?.() === 0;

/** By name, without what tar may choose: which of two links is the file, and where it finds zeros. */
function comparable(found: ReturnType<typeof read>): Map<string, unknown> {
  const all = found.map(({ entry, data }) => {
    const linked = /^dir\/(\xff|hard)/.test(entry.path);
    const { type, linkPath, sparse, uid, gid, ...rest } = entry;
    const what = linked ? {} : { type, linkPath, data: data.replaceAll("\0", "") };
    const owner = asRoot ? { uid, gid } : {};
    return [entry.path, linked ? {} : { ...rest, ...what, ...owner }] as const;
  });
  return new Map(all.sort(([a], [b]) => (a < b ? -1 : 1)));
}

test.skipIf(tar === undefined)("GNU tar lists and extracts it without a word (tar)", async ({ expect }) => {
  const contents: TarContent[] = [
    { entry: entryOf({ path: "dir", type: "directory", mode: 0o1777 }) },
    { entry: entryOf({ path: `dir/${"n".repeat(150)}`, size: 3 }), data: [Buffer.from("abc")] },
    {
      entry: entryOf({ path: "dir/\xff\xfe\n\x80", size: 1, mtimeNsec: 123_456_789 }),
      data: [Buffer.from("x")],
    },
    { entry: entryOf({ path: "dir/hard", type: "link", linkPath: "dir/\xff\xfe\n\x80" }) },
    { entry: entryOf({ path: "dir/soft", type: "symlink", mode: 0o777, linkPath: "x/".repeat(150) }) },
    { entry: entryOf({ path: "dir/old", mtimeSec: -2, mtimeNsec: 750_000_000 }) },
    {
      entry: entryOf({
        path: "dir/sparse",
        size: 9 * 2 ** 30,
        sparse: [
          { offset: 4096, length: 4096 },
          { offset: 5_000_000_000, length: 10 },
        ],
      }),
      data: [Buffer.alloc(4096, "a"), Buffer.alloc(10, "b")],
    },
    { entry: entryOf({ path: "dir/hole", size: 1_000_000, sparse: [] }) },
  ];
  if (asRoot) {
    contents.push(
      { entry: entryOf({ path: "dir/null", type: "character-device", devMajor: 1, devMinor: 70_000 }) },
      {
        entry: entryOf({
          path: "dir/owned",
          uid: 3_000_000,
          gid: 70_000,
          xattrs: [
            { name: "user.a=b%25c", value: Buffer.from([0, 255, 10, 61]) },
            { name: "user.empty", value: Buffer.alloc(0) },
          ],
        }),
      },
    );
  }
  const directory = await mkdtemp(path.join(tmpdir(), "firectl-tar-"));
  try {
    const file = `${directory}/a.tar`;
    const root = `${directory}/root`;
    await writeFile(file, await archive(contents));
    await mkdir(root);
    const options = ["--xattrs", "--xattrs-include=*", "--numeric-owner"];
    // Whatever tar warns of goes to stdout, so that it is seen: all but times before 1970.
    const extract = [...options, "--warning=no-timestamp", "-xpf", file, "-C", root];
    expect(await runProgram("sh", ["-c", 'tar "$@" 2>&1', "sh", ...extract])).toBe("");
    // GNU tar's own archive of what it extracted says the same to our reader.
    const again = `${directory}/again.tar`;
    const order = ["--sort=name", "--format=pax", "--pax-option=delete=atime,delete=ctime"];
    await runProgram("tar", [...options, ...order, "--sparse", "-cf", again, "-C", root, "dir"]);
    const theirs = comparable(read(await readFile(again)));
    expect(theirs).toEqual(comparable(read(await archive(contents))));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("padding fills the last block", ({ expect }) => {
  expect([0, 1, 511, 512, 513].map((size) => paddingAfter(size).length)).toEqual([0, 511, 1, 0, 511]);
  expect(storedSize(entryOf({ type: "link", size: 5 }))).toBe(0);
});
