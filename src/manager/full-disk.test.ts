import { mkdirSync } from "node:fs";
import { readdir, readFile, rm, statfs, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runProgram } from "../host/process.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, noise } from "../image/image.test-helper.ts";
import { baseDirectoryOf } from "./base-files.ts";
import { obtainBaseImage } from "./base-image.ts";
import type { Context } from "./context.ts";
import { addImage, contentsOf, freshContext, layerOf } from "./images.test-helper.ts";
import { tagImage } from "./images.ts";
import { prune } from "./prune.ts";
import { removeImage } from "./remove-image.ts";
import { wholeImage } from "./store-worker.test-helper.ts";

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("a full disk (needs root, to mount a small one)", () => {
  let disk: string;
  let context: Context;
  const filler = () => path.join(disk, "filler");

  beforeAll(async () => {
    disk = path.join(temporaryDirectory(), "small");
    mkdirSync(disk);
    await runProgram("mount", ["-t", "tmpfs", "-o", "size=6m", "tmpfs", disk]);
  });
  afterAll(() => runProgram("umount", [disk]));
  beforeEach(async () => {
    for (const name of await readdir(disk)) await rm(path.join(disk, name), { recursive: true });
    context = await freshContext(disk);
  });

  /** Leaves no more than `bytes`. */
  async function fill(bytes = 0): Promise<void> {
    await rm(filler(), { force: true });
    const { bavail, bsize } = await statfs(disk);
    await writeFile(filler(), Buffer.alloc(bavail * bsize - bytes));
  }

  const incompressible = (seed: string) => makeImage({ layers: [layerOf("a", noise(400_000, seed))] });

  test("while a name is given is said, and changes nothing", async () => {
    const image = await addImage(context, "a:1", incompressible("a"));
    const index = path.join(context.directories.data, "images/index.json");
    const before = await readFile(index, "utf8");
    await fill();
    await expect(tagImage(context, "a:1", "b:1")).rejects.toMatchObject({
      code: "NO_SPACE",
      hint: expect.stringContaining("firectl prune"),
    });
    expect(await readFile(index, "utf8")).toBe(before);
    await rm(filler());
    await tagImage(context, "a:1", "b:1");
    await wholeImage(context, image);
    expect((await readdir(path.dirname(index))).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("while a filesystem is built is said, and leaves nothing of it", async () => {
    const image = await addImage(context, "a:1", incompressible("a"));
    await fill(100_000);
    await expect(obtainBaseImage(context, image, {})).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(await readdir(baseDirectoryOf(context))).toEqual([]);
    await rm(filler());
    expect(await obtainBaseImage(context, image, {})).toMatchObject({ built: true });
  });

  test("while an image is pulled is said, and the next pull works", async () => {
    await fill(200_000);
    await expect(addImage(context, "a:1", incompressible("a"))).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(await (await context.images()).list()).toEqual([]);
    await rm(filler());
    await wholeImage(context, await addImage(context, "a:1", incompressible("a")));
  });

  test("is no obstacle to a prune", async () => {
    const kept = await addImage(context, "b:1", incompressible("b"));
    const image = await addImage(context, "a:1", incompressible("a"));
    await obtainBaseImage(context, image, {});
    await addImage(context, "a:1", incompressible("newer"));
    await fill();
    expect((await prune(context, {})).images).toHaveLength(1);
    expect(await contentsOf(context)).toEqual({ blobs: 6, bases: 0 });
    await wholeImage(context, kept);
  });

  test("is no obstacle to the removal of an image without a filesystem", async () => {
    await addImage(context, "b:1", incompressible("b"));
    await addImage(context, "a:1", incompressible("a"));
    await fill();
    await removeImage(context, "a:1", {});
    expect(await contentsOf(context)).toMatchObject({ blobs: 3 });
    await fill();
    expect((await prune(context, { all: true })).images).toHaveLength(1);
    expect(await contentsOf(context)).toMatchObject({ blobs: 0 });
  });
});
