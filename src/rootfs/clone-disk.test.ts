import { existsSync } from "node:fs";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { describe, test } from "vitest";
import { type Workspace, workspace } from "./built-image.test-helper.ts";
import { cloneFile, copySparse } from "./clone-disk.ts";

/** A file of 20 MiB and a bit with data in three places. */
async function sparseFile(space: Workspace): Promise<string> {
  const path = space.fresh();
  const handle = await open(path, "wx");
  await handle.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  await handle.write(Buffer.alloc(300_000, 2), 0, 300_000, 5_000_001);
  await handle.truncate(20 * 2 ** 20 + 100);
  await handle.write(Buffer.from("end"), 0, 3, 20 * 2 ** 20 + 90);
  await handle.close();
  return path;
}

describe.for([
  ["cloneFile", cloneFile],
  ["copySparse, for hosts without a cp that can", copySparse],
] as const)("%s", ([, copy]) => {
  test("copies bytes and keeps holes", async ({ expect }) => {
    await using space = await workspace();
    const from = await sparseFile(space);
    const to = space.fresh();
    await copy(from, to);
    expect((await readFile(to)).equals(await readFile(from))).toBe(true);
    expect((await stat(to)).blocks * 512).toBeLessThan(2 ** 20);
  });
});

test("an existing file is refused and left alone", async ({ expect }) => {
  await using space = await workspace();
  const [from, to] = [space.fresh(), space.fresh()];
  await writeFile(from, "a");
  await writeFile(to, "precious");
  await expect(cloneFile(from, to)).rejects.toMatchObject({ code: "IO_FAILED" });
  expect(await readFile(to, "utf8")).toBe("precious");
});

test("nothing is left of a copy that fails", async ({ expect }) => {
  await using space = await workspace();
  const to = space.fresh();
  await expect(cloneFile(space.fresh(), to)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  expect(existsSync(to)).toBe(false);
});

test("an abort is the reason it gives", async ({ expect }) => {
  await using space = await workspace();
  const from = await sparseFile(space);
  const to = space.fresh();
  await expect(cloneFile(from, to, AbortSignal.abort(new Error("enough")))).rejects.toThrow(/enough/);
  expect(existsSync(to)).toBe(false);
});
