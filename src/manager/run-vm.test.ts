import path from "node:path";
import { expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { freshContext } from "./images.test-helper.ts";
import { runVm } from "./run-vm.ts";

test.each([
  ["", "INVALID_REFERENCE"],
  ["Web", "INVALID_REFERENCE"],
  ["./rootfs", "INVALID_REFERENCE"],
  ["f".repeat(63), "IMAGE_NOT_FOUND"],
  ["f".repeat(64), "IMAGE_NOT_FOUND"],
  [`sha256:${"f".repeat(64)}`, "IMAGE_NOT_FOUND"],
  ["F".repeat(64), "INVALID_REFERENCE"],
])("an image that cannot be found leaves no record: %j is %s", async (image, code) => {
  const context = await freshContext(temporaryDirectory());
  await expect(runVm(context, { image, pull: "never" })).rejects.toMatchObject({ code });
  expect(await context.vms.read()).toEqual([]);
});

// Every record is read by others, in directories of their own.
test.each([
  ["oci:images/nginx", `oci:${path.resolve("images/nginx")}`],
  ["oci:../layout:v1", `oci:${path.resolve("../layout")}:v1`],
  ["docker-archive:app.tar:app:1", `docker-archive:${path.resolve("app.tar")}:app:1`],
  ["rootfs:-", "rootfs:-"],
  ["nginx", "nginx"],
  ["docker://nginx:1", "docker://nginx:1"],
  ["690e", "690e"],
  ["f".repeat(64), "f".repeat(64)],
])("while a VM of %s is being made, its record says %s", async (image, imageName) => {
  const context = await freshContext(temporaryDirectory());
  const seen: string[] = [];
  const images: typeof context.images = async () => {
    seen.push(...(await context.vms.read()).map((record) => record.imageName));
    throw new FirectlError("IO_FAILED", "seen enough");
  };
  await expect(runVm({ ...context, images }, { image })).rejects.toMatchObject({ code: "IO_FAILED" });
  expect(seen).toEqual([imageName]);
});
