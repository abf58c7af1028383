import { mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { withFileLock } from "../host/file-lock.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, writeLayout } from "../image/image.test-helper.ts";
import { baseDirectoryOf, baseLock } from "./base-files.ts";
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
