import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { describe, test } from "vitest";
import { checkFilesystem, readImage, tool, workspace } from "../rootfs/built-image.test-helper.ts";
import { blankDiskPath, makeBlankDisk } from "./blank-disks.ts";

const tools = (await tool("e2fsck")) !== undefined && (await tool("debugfs")) !== undefined;
const MIB = 2 ** 20;

describe.skipIf(!tools)("blank disks (e2fsck, debugfs)", () => {
  test.for([16 * MIB, 128 * MIB, 10 * 1024 * MIB, 300 * 1024 * MIB])(
    "%i bytes: the second is as the first, and no larger on disk",
    async (sizeBytes, { expect }) => {
      await using space = await workspace();
      const dataDirectory = space.fresh();
      const paths = [space.fresh(), space.fresh()] as const;
      for (const path of paths) await makeBlankDisk({ path, sizeBytes, dataDirectory });
      for (const path of paths) {
        await checkFilesystem(path);
        expect([...(await readImage(path)).keys()]).toEqual(["/upper", "/work"]);
      }
      const [first, second] = await Promise.all(paths.map((path) => stat(path)));
      expect(second?.size).toBe(sizeBytes);
      expect(second?.mode).toBe(first?.mode);
      expect(second?.blocks).toBeLessThanOrEqual(first?.blocks ?? 0);
      if (sizeBytes <= 128 * MIB)
        expect((await readFile(paths[1])).equals(await readFile(paths[0]))).toBe(true);
    },
  );

  test("a template that is none, or another size's, is made anew", async ({ expect }) => {
    await using space = await workspace();
    const dataDirectory = space.fresh();
    const sizeBytes = 64 * MIB;
    const template = blankDiskPath(dataDirectory, sizeBytes);
    const make = async (): Promise<void> => {
      const path = space.fresh();
      await makeBlankDisk({ path, sizeBytes, dataDirectory });
      await checkFilesystem(path);
    };
    await make();
    const good = await readFile(template);
    await makeBlankDisk({ path: space.fresh(), sizeBytes: 65 * MIB, dataDirectory });
    const anotherSize = await readFile(blankDiskPath(dataDirectory, 65 * MIB));
    const manyRuns = Buffer.from(good);
    manyRuns.writeBigUInt64LE(2n ** 63n, 24);
    const outside = Buffer.from(good);
    outside.writeBigUInt64LE(2n ** 62n, 32);
    const anotherVersion = Buffer.from(good);
    anotherVersion.write("0", 13);
    for (const bad of [
      Buffer.alloc(0),
      good.subarray(0, -1),
      anotherSize,
      manyRuns,
      outside,
      anotherVersion,
    ]) {
      await writeFile(template, bad);
      await make();
      expect((await readFile(template)).length).toBe(good.length);
    }
    await truncate(template, 31);
    await make();
  });
});
