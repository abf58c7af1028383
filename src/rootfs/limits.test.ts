import { existsSync } from "node:fs";
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
import { buildRootfs } from "./build-rootfs.ts";
import { buildChecked, debugfs, layer, layersOf, tool, UUID, workspace } from "./built-image.test-helper.ts";
import { limitsOf } from "./limits.ts";

/* Both sides of what an image may have, by ext4's limits and by ours, and what hostile ones come to. */

const tools = (await tool("e2fsck")) !== undefined && (await tool("debugfs")) !== undefined;

test("names may take 256 bytes for each entry allowed, up to what memory is laid out for", ({ expect }) => {
  expect(limitsOf()).toEqual({
    maxEntries: 2_000_000,
    maxBytes: 128 * 2 ** 30,
    maxMetadataBytes: 512_000_000,
  });
  expect(limitsOf({ maxEntries: 10 }).maxMetadataBytes).toBe(2560);
  expect(limitsOf({ maxEntries: 10 ** 9 }).maxMetadataBytes).toBe(3.5 * 2 ** 30);
});

describe("limits that a flag raises", () => {
  const entries = [dir("a"), file("a/b", "x"), symlink("c", "a/b")];
  test.for([
    ["entries", { maxEntries: 3 }, { maxEntries: 2 }, "more than 2 entries", "--max-image-entries"],
    [
      "names and link targets",
      { maxMetadataBytes: 8 },
      { maxMetadataBytes: 7 },
      "more than 7 bytes of names and attributes",
      "--max-image-entries",
    ],
  ] as const)("%s", async ([, enough, tooFew, problem, flag], { expect }) => {
    await using space = await workspace();
    const build = (limits: Parameters<typeof limitsOf>[0]) =>
      buildRootfs({ layers: layersOf(entries), path: space.fresh(), uuid: UUID, sync: false, limits });
    await expect(build(enough)).resolves.toMatchObject({ inodeCount: 4 });
    await expect(build(tooFew)).rejects.toMatchObject({
      code: "LAYER_INVALID",
      message: expect.stringMatching(new RegExp(`^layer layer-0, entry "c": the image has ${problem}$`)),
      hint: expect.stringContaining(flag),
    });
  });
});

describe.skipIf(!tools)("limits of ext4 (e2fsck, debugfs)", () => {
  const links = (count: number): TestEntry[] => [
    dir("d"),
    file("d/first", "x"),
    ...Array.from({ length: count - 1 }, (_, i) => hardLink(`d/${i}`, "d/first")),
  ];

  test("65000 hard links to a file, and not one more", async ({ expect }) => {
    await using space = await workspace();
    const built = await buildChecked(space, layersOf(links(65_000)));
    expect((await debugfs(built.path, ["stat /d/first"]))[0]).toMatch(/Links: 65000\b/);
    const target = space.fresh();
    const layers = layersOf([file("x")], links(65_001), [file("y")]);
    const building = buildRootfs({ layers, path: target, uuid: UUID, sync: false });
    await expect(building).rejects.toMatchObject({
      code: "LAYER_INVALID",
      message: 'layer layer-1, entry "d/first": 65001 hard links to one file, ext4 allows 65000',
    });
    expect(existsSync(target)).toBe(false);
  });

  test.for([
    [64_998, "65000"],
    [64_999, "1"],
  ] as const)("a directory of %i directories has the link count %s", async ([count, found], { expect }) => {
    await using space = await workspace();
    const entries = Array.from({ length: count }, (_, i) => dir(`d${i}`));
    const built = await buildChecked(space, layersOf(entries));
    expect((await debugfs(built.path, ["stat /"]))[0]).toMatch(new RegExp(`Links: ${found}\\b`));
  });

  test("a file of 16 TiB less two blocks, and not one byte more", async ({ expect }) => {
    await using space = await workspace();
    const largest = (2 ** 32 - 2) * 4096;
    const sparse = (size: number) =>
      file("s", "end", {
        pax: [
          ["GNU.sparse.size", String(size)],
          ["GNU.sparse.map", `${size - 3},3`],
        ],
      });
    const built = await buildChecked(space, layersOf([sparse(largest)]));
    expect((await debugfs(built.path, ["stat /s"]))[0]).toMatch(new RegExp(`Size: ${largest}\\b`));
    const building = buildRootfs({
      layers: layersOf([sparse(largest + 1)]),
      path: space.fresh(),
      uuid: UUID,
    });
    await expect(building).rejects.toThrow(
      `layer layer-0, entry "s": a file of ${largest + 1} bytes, at most ${largest}`,
    );
  });

  test("a path of 4095 bytes, and not one more", async ({ expect }) => {
    await using space = await workspace();
    const path = (length: number) => `${"a/".repeat(2040)}${"n".repeat(length - 4080)}`;
    const layers = (length: number) => layersOf([file("x", "x", { pax: [["path", path(length)]] })]);
    const built = await buildChecked(space, layers(4095));
    expect(built.inodeCount).toBe(2042);
    await expect(buildRootfs({ layers: layers(4096), path: space.fresh(), uuid: UUID })).rejects.toThrow(
      "a path of 4096 bytes, at most 4095",
    );
  });

  test("directories deeper than any path reaches, by way of symlinks, cost no stack", async ({ expect }) => {
    await using space = await workspace();
    const deep = "d/".repeat(2000).slice(0, -1);
    const reach = (depth: number): TestEntry[] => [
      dir("x", { pax: [["path", deep]] }),
      symlink("l0", "x", { pax: [["linkpath", deep]] }),
      ...Array.from({ length: depth }, (_, i): TestEntry[] => [
        dir("x", { pax: [["path", `l${i}/${deep}`]] }),
        symlink(`l${i + 1}`, "x", { pax: [["linkpath", `l${i}/${deep}`]] }),
      ]).flat(),
    ];
    const built = await buildChecked(space, layersOf(reach(1), reach(1)));
    expect(built.inodeCount).toBe(1 + 4000 + 2);
    // Beyond, what links put together is longer than a path may be.
    await expect(
      buildRootfs({ layers: layersOf(reach(2)), path: space.fresh(), uuid: UUID, sync: false }),
    ).rejects.toThrow("symlinks on the way to it form a loop, or a path too long");
  });
});

describe("hostile layers that cost nothing", () => {
  test.for<readonly [what: string, layers: ReadonlyArray<readonly TestEntry[]>, message: string]>([
    ["two hard links to each other", [[hardLink("a", "b"), hardLink("b", "a")]], 'entry "a": a hard link'],
    [
      "hard links in a circle of three layers",
      [[hardLink("a", "c")], [hardLink("c", "b")], [hardLink("b", "a")]],
      "a hard link to a file that does not exist",
    ],
    [
      "a hard link through a file",
      [[file("a"), hardLink("b", "a/c")]],
      "a hard link to a file that does not exist",
    ],
    [
      "a hard link to what the layer between took away",
      [[file("a")], [file(".wh.a", "")], [hardLink("b", "a")]],
      "a hard link to a file that does not exist",
    ],
    [
      "a size smaller than what follows",
      [[file("a", "x".repeat(600), { size: 100 })]],
      "not a tar header: its checksum is",
    ],
    ["a size that no file has", [[file("a", "x", { size: 2 ** 52 })]], "a file of 4503599627370496 bytes"],
    ["a negative size", [[file("a", "", { size: -1 })]], "the size is negative: -1"],
    [
      "an entry below a file of its layer that was a directory",
      [[dir("a"), file("a/b"), file("a"), file("a/c")]],
      'entry "a/c": it lies below something that is not a directory',
    ],
  ])("%s", async ([, layers, message], { expect }) => {
    await using space = await workspace();
    const building = buildRootfs({
      layers: layersOf(...layers),
      path: space.fresh(),
      uuid: UUID,
      sync: false,
    });
    await expect(building).rejects.toMatchObject({ code: "LAYER_INVALID" });
    await expect(building).rejects.toThrow(message);
  });

  test("one name a hundred thousand times takes the room of one", async ({ expect }) => {
    await using space = await workspace();
    const entries = Array.from({ length: 100_000 }, (_, i) => file("a", i === 99_999 ? "last" : ""));
    const built = await buildChecked(space, layersOf(entries));
    const { sizeBytes } = await buildChecked(space, layersOf([file("a", "last")]));
    expect(built).toMatchObject({ inodeCount: 2, sizeBytes });
  });

  test("a bomb is defused when it passes the limit, not when it has gone off", async ({ expect }) => {
    await using space = await workspace();
    let given = 0;
    const bomb = {
      name: "bomb",
      open: async function* () {
        const zeros = Buffer.alloc(1 << 20);
        yield encodeEntry(file("zeros", "", { size: 2 ** 40 })).subarray(0, 512);
        for (;;) {
          given += zeros.length;
          yield zeros;
        }
      },
    };
    const maxBytes = 8 * 2 ** 20;
    const building = buildRootfs({ layers: [bomb], path: space.fresh(), uuid: UUID, limits: { maxBytes } });
    await expect(building).rejects.toThrow(`layer bomb: the image has more than ${maxBytes} bytes`);
    // What is read ahead is bounded too.
    expect(given).toBeLessThan(maxBytes + 96 * 2 ** 20);
  });

  test("an archive cut anywhere is refused, or ends between two entries", async ({ expect }) => {
    await using space = await workspace();
    const whole = tarOf([
      dir("d"),
      file("d/long", "content", { pax: [["path", `d/${"n".repeat(150)}`]] }),
      file("last", "x"),
    ]);
    const ends: number[] = [];
    for (let end = 0; end < whole.length; end += 64) {
      const layers = [layer("cut", whole.subarray(0, end))];
      try {
        await buildRootfs({ layers, path: space.fresh(), uuid: UUID, sync: false });
        ends.push(end);
      } catch (error) {
        expect(error).toMatchObject({ code: "LAYER_INVALID" });
      }
    }
    // Between entries, and within the zeros at the end, which may be missing.
    expect(ends.filter((end) => end % 512 === 0)).toEqual([0, 512, 2560, 3584, 4096]);
  });
});
