import { mkdir, readdir } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import { gzipLayer, makeImage, noise, TemporaryDirectory, tar, writeLayout } from "../image.test-helper.ts";
import { Images } from "../images.ts";

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("a full disk (needs root, to mount a small one)", () => {
  it("is said, leaves nothing in the way, and the next pull works", async () => {
    await using directory = await TemporaryDirectory.make();
    const small = directory.join("small");
    const layout = directory.join("layout");
    await mkdir(small);
    const image = makeImage({ layers: [gzipLayer(tar([{ name: "a", content: noise(3_000_000, "a") }]))] });
    await writeLayout(layout, [{ image, tag: "v1" }]);
    await runProgram("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", small]);
    try {
      const images = new Images({ root: `${small}/store`, env: {} });
      await expect(images.obtain(`oci:${layout}`, { pull: "missing" })).rejects.toMatchObject({
        code: "NO_SPACE",
      });
      expect(await images.list()).toEqual([]);
      expect(await readdir(`${small}/store/ingest`)).toEqual([]);
      await runProgram("mount", ["-o", "remount,size=8m", small]);
      expect((await images.obtain(`oci:${layout}`, { pull: "missing" })).manifestDigest).toBe(
        image.manifest.digest,
      );
    } finally {
      await runProgram("umount", [small]);
    }
  });
});
