import fs, {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { buildInitramfs } from "./initramfs.ts";
import { fakeBzImage, fakeModule, fakeVmlinux, writeModuleTree } from "./kernel.test-helper.ts";
import { Kernels } from "./kernel-store.ts";

let home: string;
let kernels: Kernels;
beforeEach(() => {
  home = temporaryDirectory();
  kernels = new Kernels({ root: path.join(home, "kernels"), cacheDir: path.join(home, "cache") });
});

function write(name: string, contents: Buffer | string): string {
  writeFileSync(path.join(home, name), contents);
  return path.join(home, name);
}

function modularKernel(): { image: string; modulesDirectory: string } {
  const modulesDirectory = path.join(home, "lib");
  writeModuleTree(modulesDirectory, {
    files: {
      "virtio.ko": fakeModule({ depends: "" }),
      "virtio_mmio.ko": fakeModule({ depends: "virtio" }),
      "virtio_net.ko": fakeModule({ depends: "virtio" }),
    },
    builtin: ["virtio_blk", "vmw_vsock_virtio_transport", "overlay", "ext4"],
  });
  return { image: write("vmlinuz", fakeBzImage("6.1.0-1-cloud")), modulesDirectory };
}

describe("Kernels", () => {
  test("adds under its release, lists, and makes the first the default", async () => {
    expect(await kernels.list()).toEqual([]);
    expect(await kernels.default()).toBeUndefined();
    const added = await kernels.add(modularKernel());
    expect(added).toMatchObject({ name: "6.1.0-1-cloud", format: "bzImage", release: "6.1.0-1-cloud" });
    expect(added.modules.map(({ name }) => name)).toEqual(["virtio", "virtio_mmio", "virtio_net"]);
    await kernels.add({ image: write("vmlinux", fakeVmlinux("6.6.1")), name: "mine" });
    expect((await kernels.list()).map(({ name }) => name)).toEqual(["6.1.0-1-cloud", "mine"]);
    expect((await kernels.default())?.name).toBe("6.1.0-1-cloud");
    await kernels.setDefault("mine");
    expect((await kernels.default())?.name).toBe("mine");
    expect(await kernels.find("mine")).toMatchObject({ format: "elf", release: "6.6.1", modules: [] });
  });

  test("refuses a name twice and leaves the first as it is", async () => {
    await kernels.add(modularKernel());
    const again = kernels.add({ image: write("other", fakeBzImage("6.1.0-1-cloud")) });
    await expect(again).rejects.toMatchObject({ code: "NAME_IN_USE" });
    expect((await kernels.find("6.1.0-1-cloud")).modules).toHaveLength(3);
    expect(readdirSync(path.join(home, "kernels")).sort()).toEqual([".default", "6.1.0-1-cloud"]);
  });

  test("removes, default and all", async () => {
    await kernels.add(modularKernel());
    await kernels.remove("6.1.0-1-cloud");
    expect(await kernels.list()).toEqual([]);
    expect(await kernels.default()).toBeUndefined();
    await expect(kernels.remove("6.1.0-1-cloud")).rejects.toMatchObject({ code: "KERNEL_NOT_FOUND" });
  });

  test.each([
    ["text", Buffer.from("#!/bin/sh\n".repeat(200)), /is not a Linux kernel/],
    ["an empty file", Buffer.alloc(0), /is not a Linux kernel/],
    ["a program", readFileSync("/proc/self/exe").subarray(0, 100_000), /is not a Linux kernel/],
    ["a kernel cut short", fakeBzImage("6.1").subarray(0, 0x210), /is not a Linux kernel/],
    ["damaged gzip", gzipSync(fakeVmlinux("6.1")).subarray(0, 40), /cannot be decompressed/],
  ])("refuses %s", async (_name, bytes, message) => {
    await expect(kernels.add({ image: write("k", bytes), name: "k" })).rejects.toThrow(message);
    expect(await kernels.list()).toEqual([]);
  });

  test("refuses a kernel that lacks what a guest needs, naming it", async () => {
    const source = modularKernel();
    writeFileSync(path.join(source.modulesDirectory, "modules.builtin"), "kernel/ext4.ko\n");
    await expect(kernels.add(source)).rejects.toThrow(
      "has neither built in nor as modules: virtio_blk, vmw_vsock_virtio_transport, overlay",
    );
  });

  test.each(["..", ".default", "", "a b", "x".repeat(65), "-rf"])("%j is no name", async (name) => {
    await expect(kernels.find(name)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("a manifest that cannot be read is reported", async () => {
    const { directory } = await kernels.add(modularKernel());
    for (const text of ["", "{}", '{"version":1,"image":"../x"}', "[]"]) {
      writeFileSync(path.join(directory, "kernel.json"), text);
      await expect(kernels.find("6.1.0-1-cloud")).rejects.toMatchObject({ code: "STATE_CORRUPT" });
    }
  });

  test.each([
    ["cut off", (image: string) => truncateSync(image, 100), "has 100 bytes"],
    ["gone", (image: string) => rmSync(image), "has 0 bytes"],
  ])("an image that is %s is reported", async (_name, damage, message) => {
    const { directory, image, size } = await kernels.add(modularKernel());
    damage(path.join(directory, image));
    await expect(kernels.find("6.1.0-1-cloud")).rejects.toMatchObject({
      code: "STATE_CORRUPT",
      message: `${directory}/${image} ${message}, and kernel "6.1.0-1-cloud" was installed with ${size}`,
      hint: `remove ${directory} and add the kernel again`,
    });
  });

  test("is on the disk before it has its name, and its name is when it has been added", async () => {
    const root = path.join(home, "kernels");
    const target = path.join(root, "mine");
    const synced: { before: string[]; after: string[] } = { before: [], after: [] };
    const fsync = fs.fsync;
    // What is synced cannot be seen from outside without cutting the power.
    fs.fsync = Object.assign((descriptor: number, done: fs.NoParamCallback) => {
      const file = readlinkSync(`/proc/self/fd/${descriptor}`);
      synced[existsSync(target) ? "after" : "before"].push(file.replace(/\.[0-9a-f-]{36}\.tmp/, "NEW"));
      fsync(descriptor, done);
    }, fsync);
    syncBuiltinESMExports();
    try {
      await kernels.add({ ...modularKernel(), name: "mine" });
    } finally {
      fs.fsync = fsync;
      syncBuiltinESMExports();
    }
    const files = ["virtio", "virtio_mmio", "virtio_net"].map((name) => `modules/${name}.ko`);
    const names = [...files, "vmlinuz", "kernel.json", "modules"];
    expect(synced.before).toEqual([...names.map((name) => `${root}/NEW/${name}`), `${root}/NEW`]);
    // The directory's first is the kernel's name; a second one is the default's.
    expect(synced.after[0]).toBe(root);
  });

  test("a path is taken in once for each state of the file", async () => {
    const { image } = modularKernel();
    const [first, second] = await Promise.all([kernels.find(image), kernels.find(image)]);
    expect(first).toEqual(second);
    expect(first.modules).toEqual([]);
    writeFileSync(image, fakeBzImage("6.2.0"));
    utimesSync(image, 1, 1);
    expect((await kernels.find(image)).release).toBe("6.2.0");
    expect(await kernels.list()).toEqual([]);
    await expect(kernels.find(`${image}-none`)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });

  test("unpacks a bzImage for monitors that want an ELF file", async () => {
    const vmlinux = fakeVmlinux("6.1.0");
    const kernel = await kernels.add({ image: write("z", fakeBzImage("6.1.0", gzipSync(vmlinux))) });
    expect(await kernels.imagePath(kernel, { compressed: true })).toBe(
      path.join(kernel.directory, "vmlinuz"),
    );
    const unpacked = await kernels.imagePath(kernel, { compressed: false });
    expect(readFileSync(unpacked).equals(vmlinux)).toBe(true);
    expect(await kernels.imagePath(kernel, { compressed: false })).toBe(unpacked);
  });

  test.each([
    ["nothing", Buffer.alloc(64)],
    ["no ELF file", gzipSync("hello, this is not a kernel")],
  ])("a bzImage with %s inside cannot be unpacked", async (_name, payload) => {
    const kernel = await kernels.add({ image: write("z", fakeBzImage("6.1.0", payload)) });
    await expect(kernels.imagePath(kernel, { compressed: false })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

describe("buildInitramfs", () => {
  test("is made once for each content of agent and modules", async () => {
    const kernel = await kernels.add(modularKernel());
    const agentPath = write("agent", "first");
    const options = { kernel, agentPath, cacheDir: path.join(home, "initramfs") };
    const [first, same] = await Promise.all([buildInitramfs(options), buildInitramfs(options)]);
    expect(same).toBe(first);
    const archive = readFileSync(first, "latin1");
    expect(archive.match(/modules\/\d\d-\w+\.ko|init(?=\0)/g)).toEqual([
      "modules/00-virtio.ko",
      "modules/01-virtio_mmio.ko",
      "init",
    ]);
    writeFileSync(agentPath, "second");
    const second = await buildInitramfs(options);
    expect(second).not.toBe(first);
    writeFileSync(agentPath, "first");
    expect(await buildInitramfs(options)).toBe(first);
    expect(existsSync(second)).toBe(true);
  });

  test("a missing agent is named", async () => {
    const kernel = await kernels.add(modularKernel());
    const options = { kernel, agentPath: path.join(home, "none"), cacheDir: path.join(home, "i") };
    await expect(buildInitramfs(options)).rejects.toThrow(`the guest agent is missing: ${home}/none`);
  });
});
