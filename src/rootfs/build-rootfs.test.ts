import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, stat, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, test } from "vitest";
import {
  dir,
  encodeEntry,
  file,
  hardLink,
  symlink,
  type TestEntry,
  tarOf,
} from "../tar/tar-builder.test-helper.ts";
import { type BuildRootfsOptions, buildRootfs, type LayerInput } from "./build-rootfs.ts";
import {
  buildChecked,
  debugfs,
  layer,
  layersOf,
  readContents,
  readImage,
  tool,
  UUID,
  workspace,
} from "./built-image.test-helper.ts";
import { layerEntries } from "./layer-entries.test-helper.ts";

const tools = (await tool("e2fsck")) !== undefined && (await tool("debugfs")) !== undefined;

/** Layers, bottom first, and the contents of the files that the image must have. */
const STACKS: ReadonlyArray<
  readonly [
    what: string,
    layers: ReadonlyArray<readonly TestEntry[]>,
    files: Readonly<Record<string, string>>,
  ]
> = [
  ["no layer", [], {}],
  ["an empty layer", [[]], {}],
  ["a later file replaces an earlier one", [[file("a", "1")], [file("a", "2")]], { "/a": "2" }],
  ["a whiteout takes a file away", [[file("a"), file("b")], [file(".wh.a", "")]], { "/b": "b" }],
  ["a whiteout of nothing that is there", [[file("b")], [file(".wh.a", "")]], { "/b": "b" }],
  [
    "a whiteout takes a tree away, and what is put back has only its own",
    [
      [dir("d"), file("d/x"), dir("d/e"), file("d/e/y")],
      [file(".wh.d", ""), dir("d"), file("d/z")],
    ],
    { "/d/z": "d/z" },
  ],
  [
    "a whiteout after its own layer's file does not touch that file",
    [[file("a", "1")], [file("a", "2"), file(".wh.a", "")]],
    { "/a": "2" },
  ],
  [
    "an opaque directory hides lower layers, wherever in the tar its mark stands",
    [
      [dir("d"), file("d/x"), file("d/y")],
      [dir("d"), file("d/z"), file("d/.wh..wh..opq", ""), file("d/y", "2")],
    ],
    { "/d/y": "2", "/d/z": "d/z" },
  ],
  [
    "an opaque directory hides deeper files too",
    [
      [dir("d/e"), file("d/e/x")],
      [dir("d"), file("d/.wh..wh..opq", ""), dir("d/e"), file("d/e/y")],
    ],
    { "/d/e/y": "d/e/y" },
  ],
  [
    "what a middle layer hid stays hidden",
    [[file("a", "1"), file("d/x")], [file(".wh.a", ""), file(".wh.d", "")], [file("d/y")]],
    { "/d/y": "d/y" },
  ],
  [
    "a file between two directories cuts the lower one off",
    [[dir("d"), file("d/x")], [file("d", "file")], [dir("d"), file("d/y")]],
    { "/d/y": "d/y" },
  ],
  ["a directory over a file", [[file("a", "1")], [dir("a"), file("a/b")]], { "/a/b": "a/b" }],
  ["a file over a tree", [[dir("a/b"), file("a/b/c")], [file("a", "2")]], { "/a": "2" }],
  [
    "a duplicate in one layer: the last wins",
    [[file("a", "1"), file("b"), file("a", "2")]],
    { "/a": "2", "/b": "b" },
  ],
  [
    "a directory again in its layer keeps what it has",
    [[dir("d"), file("d/x"), dir("d", { mode: 0o700 })]],
    { "/d/x": "d/x" },
  ],
  ["AUFS's own names are ignored", [[file(".wh..wh.aufs", "x"), file("a")]], { "/a": "a" }],
  [
    "hard links into AUFS's link directory",
    [[dir(".wh..wh.plnk"), file(".wh..wh.plnk/7.1", "shared"), hardLink("a", ".wh..wh.plnk/7.1")]],
    { "/a": "shared" },
  ],
  ["a hard link", [[file("a"), hardLink("b", "a")]], { "/a": "a", "/b": "a" }],
  ["a hard link to itself", [[file("a"), hardLink("a", "./a")]], { "/a": "a" }],
  ["a hard link to a file of a lower layer", [[file("a")], [hardLink("b", "/a")]], { "/a": "a", "/b": "a" }],
  [
    "a hard link through two layers to a third",
    [[file("a")], [hardLink("b", "a")], [hardLink("c", "b")]],
    { "/a": "a", "/b": "a", "/c": "a" },
  ],
  [
    "a hard link to a lower file that the layer above it replaces",
    [[file("a", "old")], [file("a", "new")], [file("x")]].map((entries, i) =>
      i === 1 ? [hardLink("b", "a"), ...entries] : entries,
    ),
    { "/a": "new", "/b": "old", "/x": "x" },
  ],
  [
    "one name of two is replaced above: the other keeps the data",
    [[file("a", "shared"), hardLink("b", "a")], [file("a", "new")]],
    { "/a": "new", "/b": "shared" },
  ],
  [
    "one name of three is whited out, the second replaced",
    [
      [file("a", "shared"), hardLink("b", "a"), hardLink("c", "b")],
      [file(".wh.a", ""), file("b", "new")],
    ],
    { "/b": "new", "/c": "shared" },
  ],
  [
    "a hidden duplicate that a link took before it was replaced",
    [[file("a", "first"), hardLink("b", "a"), file("a", "second")], [file("a", "top")]],
    { "/a": "top", "/b": "first" },
  ],
  ["missing parents are made", [[file("x/y/z")]], { "/x/y/z": "x/y/z" }],
  [
    "absolute, dotted and doubled paths",
    [[file("/a"), file("./b"), file("c//d"), file("e/../f")]],
    { "/a": "/a", "/b": "./b", "/c/d": "c//d", "/f": "e/../f" },
  ],
  [
    "a parent that is a symlink leads where it does",
    [[dir("real"), symlink("link", "real"), file("link/x")]],
    { "/real/x": "link/x" },
  ],
  [
    "a symlink out of the image stays inside",
    [[symlink("up", "../../../etc"), symlink("abs", "/etc"), file("up/a"), file("abs/b")]],
    { "/etc/a": "up/a", "/etc/b": "abs/b" },
  ],
  [
    "a symlink of a lower layer gives way to the directory that a path needs",
    [[dir("usr/lib"), file("usr/lib/old"), symlink("lib", "usr/lib")], [file("lib/new")]],
    { "/usr/lib/old": "usr/lib/old", "/lib/new": "lib/new" },
  ],
  [
    "a directory replaced by a symlink and back, in one layer",
    [[dir("d"), file("d/x"), symlink("d", "e"), file("d/y"), dir("d"), file("d/z")]],
    { "/e/y": "d/y", "/d/z": "d/z" },
  ],
  [
    "a whiteout reached through a symlink",
    [
      [dir("real"), file("real/x"), file("real/y")],
      [symlink("link", "real"), file("link/.wh.x", "")],
    ],
    { "/real/y": "real/y" },
  ],
];

describe.skipIf(!tools)("layers (e2fsck, debugfs)", () => {
  test.for(STACKS)("%s", async ([, layers, files], { expect }) => {
    await using space = await workspace();
    const built = await buildChecked(space, layersOf(...layers));
    expect(await readContents(built.path)).toEqual(files);
  });

  test("hard links share one inode across layers", async ({ expect }) => {
    await using space = await workspace();
    const built = await buildChecked(space, layersOf([file("a")], [hardLink("b", "a"), hardLink("c", "b")]));
    const listed = await readImage(built.path);
    expect(new Set(["/a", "/b", "/c"].map((name) => listed.get(name)?.inode)).size).toBe(1);
    expect(built.inodeCount).toBe(2);
  });

  test("a hidden file's data is never written, nor a lower duplicate's read twice", async ({ expect }) => {
    await using space = await workspace();
    const opened: string[] = [];
    const layers = layersOf([file("a", "x".repeat(100_000)), file("b", "y")], [file("a", "z")]).map(
      (each) => ({
        ...each,
        open: () => {
          opened.push(each.name);
          return each.open(new AbortController().signal);
        },
      }),
    );
    const built = await buildChecked(space, layers);
    expect(built.dataBytes).toBe(2);
    expect(opened).toEqual(["layer-1", "layer-0"]);
  });

  test("a directory takes the topmost metadata given for it; one only implied takes a lower layer's", async ({
    expect,
  }) => {
    await using space = await workspace();
    const built = await buildChecked(
      space,
      layersOf(
        [dir(".", { mode: 0o750, uid: 3 }), dir("d", { mode: 0o700 }), dir("e", { mode: 0o1777, uid: 9 })],
        [dir("d", { mode: 0o711, gid: 5 }), file("e/x"), file("f/x")],
      ),
    );
    const listed = await readImage(built.path);
    expect(listed.get("/d")).toMatchObject({ mode: 0o40711, gid: 5 });
    expect(listed.get("/e")).toMatchObject({ mode: 0o41777, uid: 9 });
    expect(listed.get("/f")).toMatchObject({ mode: 0o40755, uid: 0, gid: 0 });
    const [root] = await debugfs(built.path, ["stat /"]);
    expect(root).toMatch(/Type: directory\s+Mode:\s+0750[\s\S]*User:\s+3\b/);
  });

  test("everything that an inode holds", async ({ expect }) => {
    await using space = await workspace();
    const built = await buildChecked(
      space,
      layersOf([
        file("suid", "x", {
          mode: 0o6755,
          uid: 65_536,
          gid: 4_294_967_294,
          pax: [["mtime", "4294967297.123456789"]],
        }),
        { name: "null", type: "3", mode: 0o666, dev: [1, 3] },
        { name: "disk", type: "4", mode: 0o660, dev: [259, 70_000] },
        { name: "pipe", type: "6", mode: 0o600 },
        symlink("short", "t".repeat(59)),
        symlink("long", "t".repeat(60)),
        symlink("longest", "t".repeat(4095), { pax: [["linkpath", "t".repeat(4095)]] }),
      ]),
    );
    const stat = async (name: string) => (await debugfs(built.path, [`stat /${name}`]))[0] ?? "";
    const suid = await stat("suid");
    expect(suid).toMatch(/Mode:\s+06755/);
    expect(suid).toMatch(/User: 65536\s+Group:\s+(-2|4294967294)\b/);
    expect(suid).toMatch(/mtime: 0x00000001:1d6f3455/);
    expect(await stat("null")).toMatch(/character special[\s\S]*Device major\/minor number: 01:03/);
    expect(await stat("disk")).toMatch(/block special[\s\S]*\(hex 103:11170\)/);
    expect(await stat("pipe")).toMatch(/Type: FIFO/);
    expect(await stat("short")).toMatch(/Fast link dest: "t{59}"/);
    expect(await stat("long")).toMatch(/Type: symlink[\s\S]*Size: 60[\s\S]*EXTENTS/);
    expect(await stat("longest")).toMatch(/Size: 4095/);
  });

  test("attributes in the inode, in a block and in a block that files share", async ({ expect }) => {
    await using space = await workspace();
    const capability = Buffer.from([1, 0, 0, 2, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const long = Buffer.alloc(300, 0xfe);
    const built = await buildChecked(
      space,
      layersOf([
        file("ping", "x", { pax: [["SCHILY.xattr.security.capability", capability]] }),
        file("a", "x", {
          pax: [
            ["SCHILY.xattr.user.long", long],
            // ext4 has no such namespace, however long the name is.
            [`SCHILY.xattr.com.${"n".repeat(70_000)}`, "left out"],
          ],
        }),
        dir("b", {
          pax: [
            ["SCHILY.xattr.user.long", long],
            ["SCHILY.xattr.user.z", ""],
          ],
        }),
      ]),
    );
    const read = async (name: string, attribute: string) => {
      const target = space.fresh();
      await debugfs(built.path, [`ea_get -f ${target} /${name} ${attribute}`]);
      return readFile(target);
    };
    expect(await read("ping", "security.capability")).toEqual(capability);
    expect(await read("a", "user.long")).toEqual(long);
    expect(await read("b", "user.long")).toEqual(long);
    const blocks = await debugfs(built.path, ["stat /a", "stat /b", "stat /ping"]);
    const numbers = blocks.map((text) => /File ACL: (\d+)/.exec(text)?.[1]);
    expect(numbers[0]).not.toBe("0");
    expect(numbers).toEqual([numbers[0], numbers[0], "0"]);
  });

  test("ACLs that cannot be kept are left out, and said to be, the first of them by name", async ({
    expect,
  }) => {
    await using space = await workspace();
    const acl = (user: string) =>
      [["SCHILY.acl.access", `user::rw-,user:${user}:r--,group::r--,mask::r--,other::---`]] as const;
    const build = (...entries: readonly TestEntry[]) => buildChecked(space, layersOf(entries));
    expect((await build(file("kept", "x", { pax: acl("7") }))).notice).toBeUndefined();
    const one = await build(file("kept", "x", { pax: acl("7") }), file("lost", "x", { pax: acl("bob") }));
    expect(one.notice).toMatch(/^layer layer-0, entry "lost": an ACL names "bob" .*; it is left out$/);
    const attributes = await debugfs(one.path, ["ea_list /kept", "ea_list /lost"]);
    expect(attributes.map((text) => text.includes("posix_acl_access"))).toEqual([true, false]);
    const more = await build(...["a", "b", "c"].map((name) => file(name, "x", { pax: acl("bob") })));
    expect(more.notice).toMatch(/entry "a": .*; it is left out, and 2 more$/);
  });

  test("sparse files keep their holes", async ({ expect }) => {
    await using space = await workspace();
    const huge = 9 * 2 ** 30;
    const map = `100,5,4090,10,8192,4096,${huge - 3},3`;
    const data = `${"a".repeat(5)}${"b".repeat(10)}${"c".repeat(4096)}end`;
    const built = await buildChecked(
      space,
      layersOf([
        file("s", data, {
          pax: [
            ["GNU.sparse.size", String(huge)],
            ["GNU.sparse.map", map],
          ],
        }),
        file("none", "", {
          pax: [
            ["GNU.sparse.size", "50000"],
            ["GNU.sparse.map", ""],
          ],
        }),
      ]),
    );
    const [extents, none] = await debugfs(built.path, ["stat /s", "stat /none"]);
    expect(extents).toMatch(/Size: 9663676416/);
    expect(extents).toMatch(/\(0-2\):\d+-\d+, \(2359295\):\d+/);
    expect(none).toMatch(/Size: 50000[\s\S]*Blockcount: 0/);
    expect(built.sizeBytes).toBeLessThan(100_000);
    const many = await buildChecked(
      space,
      layersOf([
        file("many", "x".repeat(2000), {
          pax: [
            ["GNU.sparse.size", "100000000"],
            ["GNU.sparse.map", Array.from({ length: 2000 }, (_, i) => `${i * 40_000},1`).join(",")],
          ],
        }),
      ]),
    );
    expect((await debugfs(many.path, ["stat /many"]))[0]).toMatch(/\(ETB1\)/);
  });

  test("names of any bytes, and a directory large enough for an index", async ({ expect }) => {
    await using space = await workspace();
    const names = Array.from({ length: 3000 }, (_, i) => `big/some-name-${i}`);
    const odd = String.fromCharCode(...Array.from({ length: 90 }, (_, i) => 166 + i));
    const built = await buildChecked(
      space,
      layersOf([...names.map((name) => file(name, "")), file(odd, "odd")]),
    );
    const listed = await readImage(built.path);
    expect(listed.size).toBe(3002);
    expect((await debugfs(built.path, ["stat /big"]))[0]).toMatch(/Flags: 0x81000/);
  });

  test("more subdirectories than a link count holds, and the group boundary of inodes", async ({
    expect,
  }) => {
    await using space = await workspace();
    const built = await buildChecked(space, layersOf(Array.from({ length: 65_100 }, (_, i) => dir(`d${i}`))));
    expect((await debugfs(built.path, ["stat /"]))[0]).toMatch(/Links: 1\b/);
    expect(built.inodeCount).toBe(65_101);
  });

  test("data of an entry that came twice becomes room for others", async ({ expect }) => {
    await using space = await workspace();
    const entries = [file("a", "x".repeat(50_000)), file("a", "y"), dir("d"), symlink("l", "t".repeat(80))];
    const built = await buildChecked(space, layersOf(entries));
    expect(await readContents(built.path)).toEqual({ "/a": "y" });
  });

  test("a writable image has its size, a journal and free space", async ({ expect }) => {
    await using space = await workspace();
    const sizeBytes = 3 * 2 ** 30 + 12_345;
    const built = await buildChecked(space, layersOf([file("a", "hello")]), { writable: { sizeBytes } });
    const { size, blocks } = await stat(built.path);
    expect(size).toBe(sizeBytes);
    expect(blocks * 512).toBeLessThan(2 ** 20);
    const [features] = await debugfs(built.path, ["features"]);
    expect(features).toContain("has_journal");
    expect(features).not.toContain("read-only");
    expect(await readContents(built.path)).toEqual({ "/a": "hello" });
  });
});

test("the same layers and options give the same bytes, however they arrive", async ({ expect }) => {
  await using space = await workspace();
  const entries = [dir("d"), file("d/a", "x".repeat(70_000)), symlink("l", "d/a"), hardLink("h", "d/a")];
  const hash = async (layers: readonly LayerInput[], limits?: BuildRootfsOptions["limits"]) => {
    const target = space.fresh();
    await buildRootfs({ layers, path: target, uuid: UUID, sync: false, limits });
    return createHash("sha256")
      .update(await readFile(target))
      .digest("hex");
  };
  const whole = await hash([layer("l", tarOf(entries), 1 << 20)]);
  expect(await hash([layer("l", tarOf(entries), 777)])).toBe(whole);
  expect(await hash([layer("l", tarOf(entries))], { maxBytes: 2 ** 20, maxEntries: 9 })).toBe(whole);
  const kinds = ["file", "dir", "whiteout", "opaque", "symlink", "link"] as const;
  const stack = fc.tuple(...[0o700, 0o710, 0o711].map((mode) => layerEntries(mode, kinds)));
  await fc.assert(
    fc.asyncProperty(stack, fc.integer({ min: 1, max: 5000 }), async (stacks, chunk) => {
      const named = (size: number) => stacks.map((each, i) => layer(`${i}`, tarOf(each), size));
      expect(await hash(named(chunk))).toBe(await hash(named(1 << 20)));
    }),
    { numRuns: 30 },
  );
});

const long = "n".repeat(256);
const HOSTILE: ReadonlyArray<readonly [what: string, entries: readonly TestEntry[], message: string]> = [
  [
    "a path out of the image",
    [file("../../etc/passwd")],
    'layer layer-0, entry "../../etc/passwd": the path leads out of the image',
  ],
  [
    "a hard link out of the image",
    [hardLink("a", "../../etc/shadow")],
    'entry "a": the path leads out of the image',
  ],
  ["a hard link to nothing", [hardLink("a", "b")], 'entry "a": a hard link to a file that does not exist'],
  ["a hard link to a directory", [dir("d"), hardLink("a", "d")], "a hard link to a directory"],
  [
    "a hard link in a circle",
    [symlink("x", "y"), symlink("y", "x"), hardLink("a", "x/z")],
    "a hard link to a file that does not exist",
  ],
  [
    "an entry below a file",
    [file("a"), file("a/b")],
    'entry "a/b": it lies below something that is not a directory',
  ],
  ["an entry below a symlink to a file", [file("f"), symlink("a", "f"), file("a/b")], "not a directory"],
  [
    "symlinks in a loop",
    [symlink("a", "b"), symlink("b", "a"), file("a/x")],
    "symlinks on the way to it form a loop",
  ],
  ["a symlink to itself", [symlink("a", "a"), file("a/x")], "form a loop"],
  ["a symlink that grows", [symlink("a", "a/a/a/a"), file("a/x")], "form a loop"],
  ["a name too long", [file("x", "x", { pax: [["path", long]] })], "a name of more than 255 bytes"],
  [
    "a path too long",
    [file("x", "x", { pax: [["path", "a/".repeat(2100)]] })],
    "a path of 4200 bytes, at most 4095",
  ],
  ["a root that is a file", [file("./")], "the image's root is not a directory"],
  ["a whiteout of the directory itself", [file("d/.wh..", "")], "a whiteout of nothing"],
  ["a whiteout of its parent", [file("d/.wh...", "")], "a whiteout of nothing"],
  ["an owner beyond 32 bits", [file("a", "x", { uid: 2 ** 33 })], "owner 8589934592:0"],
  ["the owner that means none", [file("a", "x", { uid: 2 ** 32 - 1 })], "owner 4294967295:0"],
  ["a device beyond the kernel's", [{ name: "a", type: "3", dev: [4096, 0] }], "device 4096:0"],
  ["a symlink without a target", [symlink("a", "")], "a symlink without a target"],
  [
    "a symlink too long",
    [symlink("a", "x", { pax: [["linkpath", "t".repeat(4096)]] })],
    "a symlink target of 4096 bytes, at most 4095",
  ],
  [
    "an attribute too large",
    [file("a", "x", { pax: [["SCHILY.xattr.user.a", Buffer.alloc(65_537)]] })],
    "attribute user.a of 65537 bytes, at most 65536 fit",
  ],
  [
    "an attribute's name longer than a number of 16 bits tells",
    [file("a", "x", { pax: [[`SCHILY.xattr.user.${"n".repeat(70_000)}`, "v"]] })],
    'layer layer-0, entry "a": attribute name of 70000 bytes, at most 255 fit',
  ],
  [
    "too many attributes",
    [
      file("a", "x", {
        pax: Array.from({ length: 300 }, (_, i) => [`SCHILY.xattr.user.${i}`, "v"] as const),
      }),
    ],
    "extended attributes whose names and small values take",
  ],
  [
    "a broken ACL",
    [file("a", "x", { pax: [["SCHILY.xattr.system.posix_acl_access", "??"]] })],
    "malformed POSIX ACL",
  ],
  [
    "a file beyond ext4",
    [
      file("a", "x", {
        pax: [
          ["GNU.sparse.size", String(2 ** 45)],
          ["GNU.sparse.map", "0,1"],
        ],
      }),
    ],
    "a file of 35184372088832 bytes",
  ],
  [
    "a size that lies",
    [file("a", "x", { size: 100_000 })],
    'entry "a": the archive ends in the middle of an entry',
  ],
  ["control characters in a name", [file("../\u001b[2J\r")], 'entry "../\u{fffd}[2J\u{fffd}"'],
];

describe("hostile layers", () => {
  test.for(HOSTILE)("%s", async ([, entries, message], { expect }) => {
    await using space = await workspace();
    const target = space.fresh();
    const building = buildRootfs({ layers: layersOf(entries), path: target, uuid: UUID, sync: false });
    await expect(building).rejects.toMatchObject({ code: "LAYER_INVALID" });
    await expect(building).rejects.toThrow(message);
    expect(existsSync(target)).toBe(false);
  });

  test.for([
    ["entries", { maxEntries: 3 }, "the image has more than 3 entries"],
    ["bytes", { maxBytes: 2000 }, "the image has more than 2000 bytes"],
    ["metadata", { maxMetadataBytes: 8 }, "the image has more than 8 bytes of names and attributes"],
  ] as const)("limits: %s", async ([, limits, message], { expect }) => {
    await using space = await workspace();
    const pax = [["SCHILY.xattr.user.a", "xyz"]] as const;
    const layers = layersOf([dir("a"), file("b", "x", { pax })], [dir("c"), file("d")]);
    const target = space.fresh();
    await expect(buildRootfs({ layers, path: target, uuid: UUID, limits })).rejects.toThrow(message);
    expect(existsSync(target)).toBe(false);
  });

  test("directories that only paths name count as entries, and so do segments of sparse files", async ({
    expect,
  }) => {
    await using space = await workspace();
    const build = (entry: TestEntry) =>
      buildRootfs({ layers: layersOf([entry]), path: space.fresh(), uuid: UUID, limits: { maxEntries: 10 } });
    await expect(build(file("a/b/c/d/e/f/g/h/i/j/k"))).rejects.toThrow("more than 10 entries");
    const map = Array.from({ length: 10 }, (_, i) => `${i * 9000},1`).join(",");
    const pax = [
      ["GNU.sparse.size", "100000"],
      ["GNU.sparse.map", map],
    ] as const;
    await expect(build(file("s", "0123456789", { pax }))).rejects.toThrow("more than 10 entries");
  });

  test("symlinks upon symlinks run out of steps", async ({ expect }) => {
    await using space = await workspace();
    const links = Array.from({ length: 30 }, (_, i) => symlink(`l${i}`, `${"./".repeat(40)}l${i + 1}`));
    const entries = [...links, dir("l30"), ...Array.from({ length: 20 }, (_, i) => file(`l0/x${i}/f`))];
    const target = space.fresh();
    const building = buildRootfs({
      layers: layersOf(entries),
      path: target,
      uuid: UUID,
      limits: { maxEntries: 100 },
    });
    await expect(building).rejects.toThrow("the image's paths take too many steps to follow");
  });

  test("a path of 2047 directories costs no stack", async ({ expect }) => {
    await using space = await workspace();
    const deep = `${"a/".repeat(2047)}b`;
    const built = await buildChecked(
      space,
      layersOf([file("x", "x", { pax: [["path", deep]] })], [dir("a")]),
    );
    expect(built.inodeCount).toBe(2049);
  });
});

describe("failures", () => {
  test("an existing file is refused and left alone", async ({ expect }) => {
    await using space = await workspace();
    const target = space.fresh();
    await writeFile(target, "precious");
    await expect(buildRootfs({ layers: [], path: target, uuid: UUID })).rejects.toMatchObject({
      code: "IO_FAILED",
    });
    expect(await readFile(target, "utf8")).toBe("precious");
  });

  test("aborting removes the file and rejects with the reason", async ({ expect }) => {
    await using space = await workspace();
    const target = space.fresh();
    const controller = new AbortController();
    const endless: LayerInput = {
      name: "endless",
      open: async function* () {
        for (;;) yield encodeEntry(file("a", "x".repeat(10_000)));
      },
    };
    const building = buildRootfs({
      layers: [endless],
      path: target,
      uuid: UUID,
      signal: controller.signal,
      onProgress: (bytes) => {
        if (bytes > 100_000) controller.abort(new Error("enough"));
      },
    });
    await expect(building).rejects.toThrow("enough");
    expect(existsSync(target)).toBe(false);
  });

  test("a layer that fails to read is named", async ({ expect }) => {
    await using space = await workspace();
    const target = space.fresh();
    const broken: LayerInput = {
      name: "sha256:dead",
      // biome-ignore lint/correctness/useYield: it fails before it gives anything.
      open: async function* () {
        throw new Error("incorrect header check");
      },
    };
    await expect(buildRootfs({ layers: [broken], path: target, uuid: UUID })).rejects.toThrow(
      "layer sha256:dead cannot be read: incorrect header check",
    );
    expect(existsSync(target)).toBe(false);
  });

  test("a full disk is NO_SPACE", async ({ expect }) => {
    if (!existsSync("/dev/full")) return;
    const { BlockFile } = await import("./ext4/block-file.ts");
    const { closeSync, openSync } = await import("node:fs");
    const fd = openSync("/dev/full", "w");
    try {
      const full = new BlockFile(fd, "image.ext4");
      full.write(Buffer.alloc(10));
      expect(() => full.flush()).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
    } finally {
      closeSync(fd);
    }
  });

  test("a writable disk too small for the image says what is needed", async ({ expect }) => {
    await using space = await workspace();
    const target = space.fresh();
    const layers = layersOf([file("a", "x".repeat(5_000_000))]);
    const building = buildRootfs({ layers, path: target, uuid: UUID, writable: { sizeBytes: 2 ** 20 } });
    await expect(building).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(building).rejects.toThrow(
      /a disk of 1048576 bytes is too small for the image, which takes \d+/,
    );
    expect(existsSync(target)).toBe(false);
  });

  test("a UUID that is none", async ({ expect }) => {
    await expect(buildRootfs({ layers: [], path: "/nowhere/x", uuid: "x" })).rejects.toThrow(
      '"x" is not a UUID',
    );
  });
});
