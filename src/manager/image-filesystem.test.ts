import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { digestHex } from "../core/brands.ts";
import { withFileLock } from "../host/file-lock.ts";
import { exists } from "../host/files.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, noise, plainLayer, tar, writeLayout } from "../image/image.test-helper.ts";
import { baseDirectoryOf, baseLock } from "./base-files.ts";
import { obtainBaseImage } from "./base-image.ts";
import { freshContext, layerOf } from "./images.test-helper.ts";
import { pullImage } from "./images.ts";

test("a pull removes the filesystem that a killed one has left, not one that is being built", async () => {
  const context = await freshContext();
  const layout = temporaryDirectory();
  await writeLayout(layout, [{ image: makeImage({ layers: [layerOf("a")] }), tag: "x" }]);
  const directory = baseDirectoryOf(context);
  await mkdir(directory, { recursive: true });
  const unfinished = (digit: string): string => `${digit.repeat(64)}.ext4.${crypto.randomUUID()}.tmp`;
  const [left, coming] = [unfinished("a"), unfinished("b")];
  for (const name of [left, coming]) await writeFile(path.join(directory, name), "half");
  const lock = await baseLock(context, "b".repeat(64));
  await withFileLock(lock, { timeoutMs: 1000 }, () => pullImage(context, `oci:${layout}:x`, {}));
  const names = await readdir(directory);
  expect(names).toHaveLength(2);
  expect(names).toContain(coming);
  expect(names).toContainEqual(expect.stringMatching(/^[0-9a-f]{64}\.ext4$/));
});

test("a layer damaged in the store is named as such, and mended by the next pull", async () => {
  const context = await freshContext();
  const layout = temporaryDirectory();
  // Not packed: its tar makes no sense long before its digest could be compared.
  const layer = plainLayer(tar([{ name: "a", content: noise(3_000_000, "a") }, { name: "b" }]));
  const image = makeImage({ layers: [layer] });
  await writeLayout(layout, [{ image, tag: "x" }]);
  const reference = `oci:${layout}:x`;
  await pullImage(context, reference, { build: false });
  const digest = image.layers[0]?.digest;
  if (digest === undefined) throw new Error("one");
  const file = path.join(context.directories.data, "images/blobs/sha256", digestHex(digest));
  const bytes = await readFile(file);
  bytes[150] = 0x78;
  await writeFile(file, bytes);
  const images = await context.images();
  const local = await images.find(reference);
  if (local === undefined) throw new Error("just pulled");
  await expect(obtainBaseImage(context, local, {})).rejects.toMatchObject({
    code: "DIGEST_MISMATCH",
    message: expect.stringContaining(`layer ${digest} is damaged in the store`),
  });
  expect(await exists(file)).toBe(false);
  await pullImage(context, reference, {});
  expect((await readFile(file)).equals(layer.bytes)).toBe(true);
});
