import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, writeLayout } from "../image/image.test-helper.ts";
import { addImage, addVm, beginVm, freshContext, layerOf } from "./images.test-helper.ts";
import { tagImage } from "./images.ts";
import { madeFrom } from "./made-from.ts";

test("an image is found under every name and digest of its own, and no other image with it", async () => {
  const context = await freshContext();
  const image = await addImage(context, "nginx:1.27");
  const other = await addImage(context, "job", makeImage({ layers: [layerOf("other")] }));
  await tagImage(context, "nginx:1.27", "team/web:prod");
  const records = [
    await addVm(context, image, { name: "web" }),
    await addVm(context, other, { name: "job" }),
    await beginVm(context, "nginx:1.27", "making"),
  ];
  const found = async (...references: string[]) =>
    (await madeFrom(context, records, references)).map(({ name }) => name);

  const { manifestDigest } = image;
  for (const reference of [manifestDigest, manifestDigest.slice(7), manifestDigest.slice(7, 19)]) {
    expect(await found(reference)).toEqual(["web"]);
  }
  expect(await found("team/web:prod")).toEqual(["web"]);
  // Which image it gets is not known: what it was asked for counts.
  expect(await found("docker.io/library/nginx:1.27")).toEqual(["web", "making"]);
  expect(await found("job", "team/web:prod")).toEqual(["web", "job"]);
  expect(await found("ngin")).toEqual([]);
});

test("a name that has gone to a newer image is no longer the older one's", async () => {
  const context = await freshContext();
  const old = await addVm(context, await addImage(context, "app:1"), { name: "old" });
  const newer = await addImage(context, "app:1", makeImage({ layers: [layerOf("newer")] }));
  const records = [old, await addVm(context, newer, { name: "new" })];
  expect(await madeFrom(context, records, ["app:1"])).toEqual([records[1]]);
});

test("a path is found as it was typed", async () => {
  const context = await freshContext();
  const layout = temporaryDirectory();
  await writeLayout(layout, [{ image: makeImage(), tag: "x" }]);
  const images = await context.images();
  const image = await images.obtain(`oci:${layout}:x`, { pull: "always" });
  const vm = await addVm(context, image);
  const typed = `oci:${path.relative(process.cwd(), layout)}:x`;
  expect(await madeFrom(context, [vm], [typed])).toEqual([vm]);
  expect(await madeFrom(context, [vm], [`oci:${path.relative(process.cwd(), layout)}:y`])).toEqual([]);
});

test.each([
  ["docker.io/library/nginx:1.27", ["nginx", "nginx:1.27", "docker.io/library/nginx:1.27"]],
  ["docker.io/team/app:1", ["team/app", "docker.io/team/app"]],
  ["docker:docker.io/library/app:1", ["docker:app", "docker:app:1"]],
  ["oci:/srv/layout:v1", ["oci:/srv/layout:v1", "oci:/srv/layout"]],
  ["oci:/srv/layout:v1", [`oci:${path.relative(process.cwd(), "/srv/layout")}:v1`]],
  ["/srv/vm.json", ["/srv/vm.json"]],
])("%s, which the store does not have, is found by name", async (imageName, references) => {
  const context = await freshContext();
  const vm = { ...(await beginVm(context, imageName)), imageDigest: `sha256:${"a".repeat(64)}` };
  for (const reference of references) expect(await madeFrom(context, [vm], [reference])).toEqual([vm]);
  expect(await madeFrom(context, [vm], ["ngin"])).toEqual([]);
});
