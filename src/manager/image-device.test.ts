import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MIB } from "../core/units.ts";
import { type ImageDeviceOptions, imageDeviceFor } from "./image-device.ts";

const MODULES = ["virtio_pmem", "nd_pmem"].map((name) => ({ name, dependsOn: [], sha256: "" }));

describe("imageDeviceFor", () => {
  let directory: string;
  let able: ImageDeviceOptions;
  beforeAll(async () => {
    directory = await mkdtemp(path.join(os.tmpdir(), "firectl-"));
    const basePath = path.join(directory, "base.ext4");
    await writeFile(basePath, "x");
    able = {
      requested: undefined,
      storage: "overlay",
      vmm: { pmemLack: undefined },
      kernel: { name: "k", modules: MODULES, builtin: [] },
      basePath,
      memoryMib: 512,
    };
  });
  afterAll(() => rm(directory, { recursive: true }));

  test.each([undefined, "auto", "pmem"] as const)("%s is memory where all can", (requested) => {
    expect(imageDeviceFor({ ...able, requested })).toBe("pmem");
  });

  test("a disk where one is asked for", () => {
    expect(imageDeviceFor({ ...able, requested: "block" })).toBe("block");
  });

  test("drivers may be built in, all or some", () => {
    const [first, second] = MODULES;
    const builtin = { name: "k", modules: [], builtin: ["virtio_pmem", "nd_pmem"] };
    expect(imageDeviceFor({ ...able, kernel: builtin })).toBe("pmem");
    const mixed = { name: "k", modules: first ? [first] : [], builtin: second ? [second.name] : [] };
    expect(imageDeviceFor({ ...able, kernel: mixed })).toBe("pmem");
  });

  const lacks: ReadonlyArray<[string, Partial<ImageDeviceOptions>, string]> = [
    ["the VMM", { vmm: { pmemLack: "Firecracker 1.13.0 has no virtio-pmem" } }, "Firecracker 1.13.0 has no"],
    ["storage", { storage: "copy" }, "--storage copy leaves nothing"],
    [
      "the kernel",
      { kernel: { name: "k", modules: [], builtin: ["nd_pmem"] } },
      "the kernel k lacks virtio_pmem",
    ],
    ["an old manifest", { kernel: { name: "k", modules: [] } }, "the kernel k lacks virtio_pmem and nd_pmem"],
  ];
  test.each(lacks)("%s may lack it: a disk by auto, an error by name", (_what, lack, message) => {
    expect(imageDeviceFor({ ...able, ...lack })).toBe("block");
    expect(() => imageDeviceFor({ ...able, ...lack, requested: "pmem" })).toThrow(
      `--image-device pmem: ${message}`,
    );
  });

  test("an image must not take more than an eighth of the guest's memory for its page descriptions", async () => {
    const basePath = path.join(directory, "large.ext4");
    await writeFile(basePath, "");
    await truncate(basePath, 1024 * MIB);
    expect(imageDeviceFor({ ...able, basePath, memoryMib: 128 })).toBe("pmem");
    const small = { ...able, basePath, memoryMib: 127 };
    expect(imageDeviceFor(small)).toBe("block");
    expect(() => imageDeviceFor({ ...small, requested: "pmem" })).toThrow(
      "the image of 1024 MiB needs a guest of at least 128 MiB, not 127 MiB",
    );
  });
});
