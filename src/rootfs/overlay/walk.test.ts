import { describe, test, vi } from "vitest";
import { dir, file, hardLink, symlink, type TestEntry } from "../../tar/tar-builder.test-helper.ts";
import { buildChecked, buildUpperDisk, layersOf, workspace } from "../built-image.test-helper.ts";
import { openFilesystem } from "../ext4-reader/filesystem.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import { type ReadTree, readTree, readView } from "../read-image.test-helper.ts";
import { findInView } from "./walk.ts";

const overlay = (name: string, value: string): readonly [string, string] => [
  `SCHILY.xattr.trusted.overlay.${name}`,
  value,
];
const whiteout = (name: string): TestEntry => ({ name, type: "3", dev: [0, 0] });

const LOWER: readonly TestEntry[] = [
  dir("a"),
  file("a/x", "lower x"),
  file("a/y", "lower y"),
  dir("a/deep"),
  file("a/deep/er", "deep"),
  file("b", "lower b"),
  hardLink("c", "b"),
  dir("d"),
  file("d/in", "in d"),
];

/** What a guest sees whose disk holds `upper` over the image of `lower`. */
async function merged(upper: readonly TestEntry[], lower: readonly TestEntry[] = LOWER): Promise<ReadTree> {
  await using space = await workspace();
  const base = await buildChecked(space, layersOf(lower));
  const disk = await buildUpperDisk(space, upper);
  using lowerVolume = openFilesystem(base.path);
  using upperVolume = openFilesystem(disk);
  return await readView({ kind: "overlay", lower: lowerVolume, upper: upperVolume, upperPath: "upper" });
}

const names = (tree: ReadTree) => tree.lines.map((line) => line.split(" ", 1)[0]);

describe("an overlay", () => {
  test.for<readonly [what: string, upper: readonly TestEntry[], expected: readonly string[]]>([
    ["of nothing", [], ["a", "a/deep", "a/deep/er", "a/x", "a/y", "b", "c", "d", "d/in"]],
    [
      "of directories that are there below",
      [dir("a"), file("a/z")],
      ["a", "a/deep", "a/deep/er", "a/x", "a/y", "a/z", "b", "c", "d", "d/in"],
    ],
    [
      "of an opaque directory",
      [dir("a", { pax: [overlay("opaque", "y")] }), file("a/z")],
      ["a", "a/z", "b", "c", "d", "d/in"],
    ],
    ["of whiteouts", [whiteout("a"), whiteout("b"), whiteout("none")], ["c", "d", "d/in"]],
    ["of a file over a directory", [file("a", "")], ["a", "b", "c", "d", "d/in"]],
    ["of a directory over a file", [dir("b"), whiteout("a"), whiteout("d")], ["b", "c"]],
    [
      "of a directory that was renamed, and one renamed in that",
      [
        whiteout("a"),
        dir("d"),
        dir("d/moved", { pax: [overlay("redirect", "/a")] }),
        dir("d/moved/deeper", { pax: [overlay("redirect", "deep")] }),
        whiteout("d/moved/deep"),
        whiteout("d/moved/x"),
      ],
      ["b", "c", "d", "d/in", "d/moved", "d/moved/deeper", "d/moved/deeper/er", "d/moved/y"],
    ],
    [
      "of a redirect to what is not there, or no directory",
      [
        dir("e", { pax: [overlay("redirect", "/none/at/all")] }),
        dir("f", { pax: [overlay("redirect", "/b")] }),
        whiteout("a"),
        whiteout("d"),
      ],
      ["b", "c", "e", "f"],
    ],
  ])("%s", async ([, upper, expected], { expect }) => {
    expect(names(await merged(upper))).toEqual(expected);
  });

  test("shows an image's own whiteouts as overlayfs does, and a single disk as it is", async ({ expect }) => {
    const image = [dir("a"), whiteout("a/gone"), file("a/x")];
    expect(names(await merged([], image))).toEqual(["a", "a/x"]);
    await using space = await workspace();
    const plain = await readTree((await buildChecked(space, layersOf(image))).path);
    expect(names(plain)).toEqual(["a", "a/gone", "a/x"]);
  });

  test("has none of its own notes from the image, whose other attributes stay", async ({ expect }) => {
    const image = [
      dir("a", { pax: [overlay("redirect", "/d"), overlay("opaque", "y")] }),
      file("a/x", "x", { pax: [overlay("metacopy", ""), overlay("overlay.opaque", "y")] }),
      file("a/y", "y", {
        pax: [
          overlay("origin", "o"),
          ["SCHILY.xattr.trusted.other", "1"],
          ["SCHILY.xattr.user.overlay.opaque", "y"],
        ],
      }),
      dir("d"),
    ];
    await using space = await workspace();
    const built = await buildChecked(space, layersOf([dir("a"), file("a/z")], image));
    const plain = await readTree(built.path);
    expect(plain.xattrs).toEqual(["a/y trusted.other=31", "a/y user.overlay.opaque=79"]);
    expect(names(await merged([], image))).toEqual(["a", "a/x", "a/y", "d"]);
  });

  test("gives the marks of an overlay within the guest their names back", async ({ expect }) => {
    const tree = await merged([dir("d", { pax: [overlay("overlay.opaque", "y"), overlay("impure", "y")] })]);
    expect(tree.xattrs).toEqual(["d trusted.overlay.opaque=79"]);
    expect(names(tree)).toContain("d/in");
  });

  test("takes the data of a file of which only the metadata was copied from where it is", async ({
    expect,
  }) => {
    const tree = await merged([
      file("b", "", { mode: 0o4755, pax: [overlay("metacopy", "")] }),
      file("renamed", "", { pax: [overlay("metacopy", ""), overlay("redirect", "/a/x")] }),
    ]);
    expect(tree.entries.get("b")).toMatchObject({ mode: 0o4755, size: "lower b".length });
    expect(tree.entries.get("c")).toMatchObject({ mode: 0o644, type: "file" });
    expect(tree.entries.get("renamed")).toMatchObject({ size: "lower x".length });
  });

  test.for<readonly [what: string, upper: readonly TestEntry[], message: RegExp]>([
    [
      "a lower directory in two places",
      [dir("e", { pax: [overlay("redirect", "/a")] }), dir("f", { pax: [overlay("redirect", "/a")] })],
      /inode \d+: the directory has two places in the tree$/,
    ],
    [
      "the root in itself",
      [dir("e", { pax: [overlay("redirect", "/")] })],
      /the guest's disk redirects to a path that is none$/,
    ],
    [
      "a path with ..",
      [dir("e", { pax: [overlay("redirect", "/a/../d")] })],
      /the guest's disk redirects to a path that is none$/,
    ],
    [
      "metadata without data",
      [file("e", "", { pax: [overlay("metacopy", "")] })],
      /inode \d+: the image has no file with its data$/,
    ],
    [
      "metadata of a symlink's data",
      [file("e", "", { pax: [overlay("metacopy", ""), overlay("redirect", "/l")] })],
      /inode \d+: the image has no file with its data$/,
    ],
  ])("refuses %s", async ([, upper, message], { expect }) => {
    const read = merged(upper, [...LOWER, symlink("l", "b")]);
    await expect(read).rejects.toMatchObject({
      code: "DISK_INVALID",
      message: expect.stringMatching(message),
    });
  });

  test("needs the directory that the agent makes", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(space, layersOf(LOWER));
    using lower = openFilesystem(path);
    using upper = openFilesystem(path);
    const read = readView({ kind: "overlay", lower, upper, upperPath: "upper" });
    await expect(read).rejects.toThrow(/: there is no directory upper$/);
  });
});

describe("findInView", () => {
  const TREE: readonly TestEntry[] = [
    dir("d"),
    file("d/f", "data"),
    dir("d/sub"),
    file("d/sub/g", "more"),
    symlink("to-d", "d"),
    hardLink("also-to-d", "to-d"),
    symlink("d/up", "/to-d/../to-d/f"),
    symlink("loop", "loop"),
  ];

  /** What a path leads to, and how often looking it up gave way. */
  async function find(volume: Volume, path: string, { follow = false } = {}): Promise<[string[], number]> {
    const finding = findInView({ kind: "plain", volume }, path, follow);
    let pauses = 0;
    let step = finding.next();
    for (; step.done !== true; step = finding.next()) pauses++;
    return [Array.from(step.value.contents(), ({ entry }) => `${entry.type} ${entry.path}`), pauses];
  }

  test("goes through links and up again, and gives way at each name", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(space, layersOf(TREE));
    using volume = openFilesystem(path);
    expect(await find(volume, "/d")).toEqual([
      ["directory ", "file f", "directory sub", "file sub/g", "symlink up"],
      1,
    ]);
    expect(await find(volume, "/to-d")).toEqual([["symlink "], 1]);
    expect(await find(volume, "/d/up", { follow: true })).toEqual([["file "], 7]);
    // Another name of a link is a link too, also the second time.
    expect(await find(volume, "/also-to-d/../to-d/../also-to-d/f")).toEqual([["file "], 7]);
    const refused: ReadonlyArray<readonly [path: string, message: string]> = [
      ["/d/none", "/d/none: no such file or directory"],
      ["/d/f/", "/d/f/: not a directory"],
      ["/loop/x", "/loop/x: too many levels of symbolic links"],
    ];
    for (const [wrong, message] of refused) {
      await expect(find(volume, wrong)).rejects.toMatchObject({ code: "FILE_NOT_FOUND", message });
    }
  });

  test("reads a directory once, however often the path leads through it", async ({ expect }) => {
    await using space = await workspace();
    const many = Array.from({ length: 2000 }, (_, i) => file(`big/a-name-of-some-length-${i}`, ""));
    const { path } = await buildChecked(space, layersOf([dir("big"), dir("big/d"), ...many]));
    using volume = openFilesystem(path);
    const blocks = vi.spyOn(volume, "block");
    await find(volume, "/big/d");
    const once = blocks.mock.calls.length;
    blocks.mockClear();
    await find(volume, `/big${"/d/..".repeat(200)}/d`);
    // Further names read inodes, two blocks each; the directory has some twenty of its own.
    expect(blocks.mock.calls.length).toBeLessThan(once + 200 * 3);
    expect(once).toBeGreaterThan(20);
  });
});
