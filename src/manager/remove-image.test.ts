import { expect, test } from "vitest";
import { exists } from "../host/files.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, writeLayout } from "../image/image.test-helper.ts";
import { addImage, addVm, beginVm, contentsOf, dropVm, freshContext, layerOf } from "./images.test-helper.ts";
import { listImages, tagImage } from "./images.ts";
import { removeImage } from "./remove-image.ts";

const FORCE = { force: true };

test("a name goes, and with the last one blobs and filesystem", async () => {
  const context = await freshContext();
  const image = await addImage(context, "a:1");
  await dropVm(context, await addVm(context, image));
  await tagImage(context, "a:1", "b:1");
  expect(await removeImage(context, "a:1", {})).toEqual({ untagged: ["a:1"], deleted: [] });
  expect(await contentsOf(context)).toEqual({ blobs: 3, bases: 1 });
  expect(await removeImage(context, "b:1", {})).toEqual({
    untagged: ["b:1"],
    deleted: [image.manifestDigest],
  });
  expect(await contentsOf(context)).toEqual({ blobs: 0, bases: 0 });
  await expect(removeImage(context, "b:1", {})).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
});

test("layers that another image has stay", async () => {
  const context = await freshContext();
  const shared = layerOf("shared");
  const [one, two] = ["one", "two"].map((name) => makeImage({ layers: [shared, layerOf(name)] }));
  await addImage(context, "one", one);
  await addImage(context, "two", two);
  expect(await contentsOf(context)).toMatchObject({ blobs: 7 });
  await removeImage(context, "one", {});
  expect(await contentsOf(context)).toMatchObject({ blobs: 4 });
  await removeImage(context, "two", {});
  expect(await contentsOf(context)).toMatchObject({ blobs: 0 });
});

test("what a VM uses stays, and the error says how to go on", async () => {
  const context = await freshContext();
  const image = await addImage(context, "a:1");
  const vms = [await addVm(context, image, { name: "web" }), await addVm(context, image, { name: "db" })];
  await expect(removeImage(context, "a:1", {})).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: "cannot remove a:1: 2 VMs use it: web, db",
    hint: "firectl rm web db removes what uses it; firectl rmi -f a:1 only takes its name away and keeps it for them",
  });
  // A further name may go.
  await tagImage(context, "a:1", "b:1");
  expect(await removeImage(context, "a:1", {})).toEqual({ untagged: ["a:1"], deleted: [] });
  expect(await removeImage(context, "b:1", FORCE)).toEqual({ untagged: ["b:1"], deleted: [] });
  expect(await contentsOf(context)).toEqual({ blobs: 3, bases: 1 });
  const [summary] = await listImages(context, await context.vms.read());
  expect(summary).toMatchObject({
    repository: "b",
    tag: undefined,
    dangling: true,
    usedBy: vms.map(({ id }) => id),
  });
  const id = image.manifestDigest.slice(7, 19);
  await expect(removeImage(context, id, FORCE)).rejects.toMatchObject({
    code: "WRONG_STATE",
    hint: "firectl rm web db removes what uses it",
  });
  for (const vm of vms) await dropVm(context, vm);
  expect(await removeImage(context, id, {})).toEqual({ untagged: [], deleted: [image.manifestDigest] });
  expect(await contentsOf(context)).toEqual({ blobs: 0, bases: 0 });
});

test("a running VM is named with the command that ends it", async () => {
  const context = await freshContext();
  await addVm(context, await addImage(context, "a"), { name: "web", state: "running" });
  await expect(removeImage(context, "a", {})).rejects.toMatchObject({
    message: "cannot remove a: VM web uses it",
    hint: expect.stringMatching(/^firectl rm -f web removes/),
  });
});

test("a VM that is being made may be about to use it", async () => {
  const context = await freshContext();
  await addImage(context, "a:1");
  const other = await addImage(context, "other");
  await beginVm(context, "docker.io/library/a:1", "new");
  await expect(removeImage(context, "a:1", {})).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: "cannot remove a:1: VM new is being made and may use it",
    // It may have nothing to do with the image: nobody is told to remove it.
    hint: "try again when it runs; firectl rmi -f a:1 only takes its name away and keeps it for them",
  });
  await beginVm(context, "a:1", "newer");
  await expect(removeImage(context, "a:1", {})).rejects.toMatchObject({
    message: "cannot remove a:1: 2 VMs are being made and may use it: new, newer",
    hint: expect.stringMatching(/^try again when they run;/),
  });
  expect(await removeImage(context, "other", {})).toMatchObject({ deleted: [other.manifestDigest] });
});

test("of VMs that use it and one that only may, those are named that do", async () => {
  const context = await freshContext();
  await addVm(context, await addImage(context, "a:1"), { name: "web" });
  await beginVm(context, "a:1", "new");
  await expect(removeImage(context, "a:1", {})).rejects.toMatchObject({
    message: "cannot remove a:1: VM web uses it",
    hint: expect.stringMatching(/^firectl rm web removes/),
  });
});

test.each(["", "sha256:"])("a digest of several repositories needs -f (%s…)", async (prefix) => {
  const context = await freshContext();
  const { manifestDigest } = await addImage(context, "a:1");
  await tagImage(context, "a:1", "a:2");
  const reference = `${prefix}${manifestDigest.slice(7, 30)}`;
  await tagImage(context, "a:1", "b:1");
  await expect(removeImage(context, reference, {})).rejects.toMatchObject({
    code: "WRONG_STATE",
    message: `cannot remove ${reference}: it has the names a:1 a:2 b:1`,
  });
  await removeImage(context, "b:1", {});
  // Several tags of one repository are one thing, as in Docker.
  expect(await removeImage(context, reference, {})).toEqual({
    untagged: ["a:1", "a:2"],
    deleted: [manifestDigest],
  });
});

test("a tag that goes to a newer image leaves the older one nameless, and its VM its filesystem", async () => {
  const context = await freshContext();
  const old = await addImage(context, "a:1");
  const vm = await addVm(context, old);
  const base = vm.machine?.drives[0]?.path ?? "";
  const newer = await addImage(context, "a:1");
  expect(
    (await listImages(context, [vm])).map(({ digest, tag, dangling }) => [digest, tag, dangling]),
  ).toEqual([
    [old.manifestDigest, undefined, true],
    [newer.manifestDigest, "1", false],
  ]);
  await removeImage(context, "a:1", {});
  expect(await exists(base)).toBe(true);
  expect(await removeImage(context, `a@${old.manifestDigest}`, {}).catch(({ code }) => code)).toBe(
    "WRONG_STATE",
  );
});

test("a VM's own copy of the filesystem needs none", async () => {
  const context = await freshContext();
  const image = await addImage(context, "a");
  await addVm(context, image, { storage: "copy" });
  expect(await contentsOf(context)).toMatchObject({ bases: 1 });
  await removeImage(context, "a", FORCE);
  expect(await contentsOf(context)).toEqual({ blobs: 3, bases: 1 });
});

test("one platform of two is removed by its digest, both by their name", async () => {
  const context = await freshContext();
  const images = await context.images();
  const layout = temporaryDirectory();
  const [amd, arm] = ["amd64", "arm64"].map((architecture) => ({
    image: makeImage({ architecture }),
    tag: "x",
    platform: { os: "linux", architecture },
  }));
  if (amd === undefined || arm === undefined) throw new Error("two");
  await writeLayout(layout, [amd, arm]);
  const name = `oci:${layout}:x`;
  const bring = async () => {
    for (const platform of ["linux/amd64", "linux/arm64"])
      await images.obtain(name, { pull: "always", platform });
  };
  await bring();
  expect(await removeImage(context, arm.image.manifest.digest, {})).toEqual({
    untagged: [name],
    deleted: [arm.image.manifest.digest],
  });
  expect((await images.list()).map((each) => [each.name, each.image.platform.architecture])).toEqual([
    [name, "amd64"],
  ]);
  await bring();
  expect(await contentsOf(context)).toMatchObject({ blobs: 6 });
  expect((await removeImage(context, name, {})).deleted).toHaveLength(2);
  expect(await contentsOf(context)).toMatchObject({ blobs: 0 });
});
