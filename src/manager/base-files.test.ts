import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { baseDirectoryOf, sweepUnfinishedBases } from "./base-files.ts";
import { obtainBaseImage } from "./base-image.ts";
import { dataLocksDirectory } from "./data-locks.ts";
import { addImage, freshContext } from "./images.test-helper.ts";
import { prune } from "./prune.ts";
import { removeImage } from "./remove-image.ts";

/** Two sessions of one user: the same data, another run-time directory. */
async function twoSessions() {
  const home = temporaryDirectory();
  const [login, cron] = ["login", "cron"].map((name) =>
    freshContext(home, { FIRECTL_RUNTIME_DIR: path.join(temporaryDirectory(), name) }),
  );
  if (login === undefined || cron === undefined) throw new Error("two");
  return { login: await login, cron: await cron };
}

test("a filesystem that another session builds stays, and is built once", async () => {
  const { login, cron } = await twoSessions();
  expect(cron.directories.runtime).not.toBe(login.directories.runtime);
  const image = await addImage(login, "a:1");
  const images = await login.images();
  let sweptMeanwhile = -1;
  let other: ReturnType<typeof obtainBaseImage> | undefined;
  const mine = obtainBaseImage(login, image, {
    async *open(layer, how) {
      if (other === undefined) {
        expect(await readdir(baseDirectoryOf(cron))).toEqual([expect.stringMatching(/\.tmp$/)]);
        sweptMeanwhile = (await sweepUnfinishedBases(cron)).length;
        await prune(cron, {});
        other = obtainBaseImage(cron, image, {});
      }
      yield* images.openLayer(layer, how);
    },
  });
  expect(await mine).toMatchObject({ built: true });
  expect(sweptMeanwhile).toBe(0);
  expect(await other).toMatchObject({ built: false });
});

test("locks of filesystems go when nobody builds", async () => {
  const context = await freshContext();
  await obtainBaseImage(context, await addImage(context, "a:1"), {});
  expect(await readdir(dataLocksDirectory(context))).toEqual([expect.stringMatching(/^base-/)]);
  await addImage(context, "b:1");
  await removeImage(context, "a:1", {});
  expect(await readdir(dataLocksDirectory(context))).toEqual([]);
});

test("what keeps a filesystem from its place is told with that place", async () => {
  const context = await freshContext();
  const image = await addImage(context, "a:1");
  const images = await context.images();
  const building = obtainBaseImage(context, image, {
    async *open(layer, how) {
      const [name = ""] = await readdir(baseDirectoryOf(context));
      await mkdir(path.join(baseDirectoryOf(context), name.replace(/\.ext4\..*/, ".ext4")), {
        recursive: true,
      });
      yield* images.openLayer(layer, how);
    },
  });
  await expect(building).rejects.toMatchObject({
    code: "IO_FAILED",
    message: expect.stringMatching(/^cannot put the filesystem .*\.ext4 in its place: EISDIR/),
  });
});
