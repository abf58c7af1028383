import { describe, test } from "vitest";
import { dir, file } from "../../tar/tar-builder.test-helper.ts";
import { buildChecked, layersOf, workspace } from "../built-image.test-helper.ts";
import { openFilesystem } from "../ext4-reader/filesystem.ts";
import { readInode } from "../ext4-reader/inode.ts";
import { ROOT_INODE } from "../ext4-reader/superblock.ts";
import { NameLookup } from "./name-lookup.ts";

describe("NameLookup", () => {
  test("reads a directory once, and no more blocks than it may", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(space, layersOf([dir("d"), file("d/f", "")]));
    using volume = openFilesystem(path);
    const placeOf = (number: number) => ({ volume, inode: readInode(volume, number) });
    const root = placeOf(ROOT_INODE);
    const lookup = new NameLookup(volume, 1);
    for (let i = 0; i < 3; i++) expect(lookup.inodeOf(root, "none")).toBeUndefined();
    const directory = placeOf(lookup.inodeOf(root, "d") ?? 0);
    expect(() => lookup.inodeOf(directory, "f")).toThrow(
      /: looking up names reads more than 1 blocks of directories$/,
    );
    expect(new NameLookup(volume, 2).inodeOf(directory, "f")).toBeGreaterThan(ROOT_INODE);
  });
});
