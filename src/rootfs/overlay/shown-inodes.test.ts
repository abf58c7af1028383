import { describe, test } from "vitest";
import { dir } from "../../tar/tar-builder.test-helper.ts";
import { buildChecked, layersOf, workspace } from "../built-image.test-helper.ts";
import { openFilesystem } from "../ext4-reader/filesystem.ts";
import { type DiskInode, readInode } from "../ext4-reader/inode.ts";
import { ROOT_INODE } from "../ext4-reader/superblock.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import { ShownInodes } from "./shown-inodes.ts";

async function withVolume(work: (volume: Volume) => void): Promise<void> {
  await using space = await workspace();
  const { path } = await buildChecked(space, layersOf([dir("d")]));
  using volume = openFilesystem(path);
  work(volume);
}

describe("ShownInodes", () => {
  test("lets an inode have as many names as links, each inode for itself", async ({ expect }) => {
    await withVolume((volume) => {
      const shown = new ShownInodes(volume);
      const inode = (number: number, links: number): DiskInode => ({
        ...readInode(volume, ROOT_INODE),
        number,
        links,
      });
      // Neighbours in a byte of marks, the ends of a page of them, and the highest number.
      for (const number of [8, 9, 15, 16, 32_767, 32_768, 2 ** 32 - 1]) {
        expect(shown.addName(inode(number, 1), `${number}`)).toBeUndefined();
      }
      for (const number of [8, 9, 15, 16, 32_767, 32_768, 2 ** 32 - 1]) {
        expect(() => shown.addName(inode(number, 1), "again")).toThrow(
          new RegExp(`: inode ${number}: more names lead to it than its link count of 1$`),
        );
      }
      const paths = ["a", "b", "c"].map((path) => shown.addName(inode(100, 3), path));
      expect(paths).toEqual([undefined, "a", "a"]);
      expect(() => shown.addName(inode(100, 3), "d")).toThrow(/than its link count of 3$/);
      shown.addDirectory(inode(200, 2));
      expect(() => shown.addDirectory(inode(200, 2))).toThrow(/: the directory has two places in the tree$/);
    });
  });

  test("keeps 256 MiB of paths", async ({ expect }) => {
    await withVolume((volume) => {
      const shown = new ShownInodes(volume);
      const inode = { ...readInode(volume, ROOT_INODE), links: 2 };
      // One string: what is counted is not what this test takes.
      const path = "p".repeat(65_536);
      for (let number = 1; number <= 4096; number++) shown.addName({ ...inode, number }, path);
      expect(() => shown.addName({ ...inode, number: 5000 }, path)).toThrow(
        /: inode 5000: with it, the paths of files with several names have more than 268435456 bytes$/,
      );
    });
  });
});
