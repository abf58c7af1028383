import { expect, test } from "vitest";
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
