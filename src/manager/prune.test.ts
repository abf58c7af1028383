import { mkdir, readdir, rm, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { tryFileLock } from "../host/file-lock.ts";
import { exists } from "../host/files.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage } from "../image/image.test-helper.ts";
import { buildInitramfs } from "../kernel/initramfs.ts";
import { fakeVmlinux } from "../kernel/kernel.test-helper.ts";
import { baseDirectoryOf, baseLock } from "./base-files.ts";
import { obtainBaseImage } from "./base-image.ts";
import { blankDisksDirectory } from "./blank-disks.ts";
import type { Context } from "./context.ts";
import { diskUsage } from "./disk-usage.ts";
import { addImage, addVm, beginVm, contentsOf, dropVm, freshContext, layerOf } from "./images.test-helper.ts";
import { tagImage } from "./images.ts";
import { inspectImage } from "./inspect-image.ts";
import { prune } from "./prune.ts";
import { removeImage } from "./remove-image.ts";
import { vmPathsOf } from "./vm-paths.ts";

async function names(context: Context): Promise<unknown> {
  return (await (await context.images()).list()).map(({ name }) => name);
}

describe("prune", () => {
  test("of a machine that has nothing makes nothing", async () => {
    const context = await freshContext();
    expect(await prune(context, { all: true })).toEqual({
      images: [],
      items: [],
      reclaimedBytes: 0,
      postponed: [],
    });
    expect(await exists(context.directories.data)).toBe(false);
  });

  test("takes what has no name, with blobs and filesystem, and leaves the rest", async () => {
    const context = await freshContext();
    const old = await addImage(context, "a:1");
    await obtainBaseImage(context, old, {});
    const used = await addImage(context, "b:1");
    const vm = await addVm(context, used);
    await addImage(context, "b:1");
    const newer = await addImage(context, "a:1");
    await obtainBaseImage(context, newer, {});
    const report = await prune(context, {});
    expect(report).toMatchObject({
      images: [{ untagged: [], deleted: [old.manifestDigest] }],
      items: [{ kind: "filesystem" }, { kind: "blob", name: "3 blobs" }],
      postponed: [],
    });
    expect(report.reclaimedBytes).toBe(report.items.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(report.reclaimedBytes).toBeGreaterThan(3 * 512);
    expect(await names(context)).toEqual([undefined, "docker.io/library/b:1", "docker.io/library/a:1"]);
    expect(await contentsOf(context)).toEqual({ blobs: 9, bases: 2 });

    await dropVm(context, vm);
    expect((await prune(context, {})).images).toEqual([{ untagged: [], deleted: [used.manifestDigest] }]);
    expect(await contentsOf(context)).toEqual({ blobs: 6, bases: 1 });
    expect(await prune(context, {})).toMatchObject({ images: [], items: [], reclaimedBytes: 0 });
  });

  test("with all takes every image that no VM uses, under whatever name", async () => {
    const context = await freshContext();
    const shared = layerOf("shared");
    const used = await addImage(context, "used", makeImage({ layers: [shared] }));
    const unused = await addImage(context, "unused:1", makeImage({ layers: [shared, layerOf("own")] }));
    await tagImage(context, "unused:1", "unused:2");
    await tagImage(context, "used", "used:2");
    await addVm(context, used);
    const report = await prune(context, { all: true });
    expect(report.images).toEqual([{ untagged: ["unused:1", "unused:2"], deleted: [unused.manifestDigest] }]);
    expect(await names(context)).toEqual(["docker.io/library/used:latest", "docker.io/library/used:2"]);
    expect(await contentsOf(context)).toEqual({ blobs: 3, bases: 1 });
  });

  test("until takes only what was made before", async () => {
    const context = await freshContext();
    // As its configuration says: 2026-01-02T03:04:05Z.
    await addImage(context, "a:1");
    const before = Date.parse("2026-01-02T03:04:05Z");
    expect((await prune(context, { all: true, untilMs: before })).images).toEqual([]);
    expect((await prune(context, { all: true, untilMs: before + 1 })).images).toHaveLength(1);
  });

  test("takes interrupted downloads and unfinished filesystems, unless somebody works on them", async () => {
    const context = await freshContext();
    await addImage(context, "a");
    const partial = path.join(context.directories.data, "images/ingest", `${"1".repeat(64)}.partial`);
    await writeFile(partial, "begun");
    // The clock may have gone back since.
    const future = Date.now() / 1000 + 3600;
    await utimes(partial, future, future);
    await mkdir(baseDirectoryOf(context), { recursive: true });
    const [mine, others] = ["a", "b"].map((digit) => `${digit.repeat(64)}.ext4.${digit}.tmp`);
    for (const name of [mine, others]) await writeFile(path.join(baseDirectoryOf(context), name ?? ""), "x");
    await tryFileLock(await baseLock(context, "b".repeat(64)), async () => {
      const { items } = await prune(context, {});
      expect(items.map(({ kind, name }) => [kind, path.basename(name)])).toEqual([
        ["filesystem", mine],
        ["download", "1 file"],
      ]);
    });
    expect(await readdir(baseDirectoryOf(context))).toEqual([others]);
    expect(await exists(partial)).toBe(false);
    await prune(context, {});
    expect(await readdir(baseDirectoryOf(context))).toEqual([]);
  });

  test("leaves a VM that is being made whatever it may have got", async () => {
    const context = await freshContext();
    const old = await addImage(context, "a:1");
    const base = await obtainBaseImage(context, old, {});
    const vm = await beginVm(context, "a:1", "new");
    // It has got `old`; then the name goes to another one.
    await addImage(context, "a:1");
    const unrelated = await addImage(context, "b:1");
    const report = await prune(context, { all: true });
    expect(report.images).toEqual([{ untagged: ["b:1"], deleted: [unrelated.manifestDigest] }]);
    expect(report.postponed).toEqual(["filesystems and caches stay while VMs are being made (new)"]);
    expect(await exists(base.path)).toBe(true);
    await dropVm(context, vm);
    expect((await prune(context, { all: true })).images).toHaveLength(2);
    expect(await contentsOf(context)).toEqual({ blobs: 0, bases: 0 });
  });

  test("leaves the filesystems while disks of VMs lie there that nobody knows", async () => {
    const context = await freshContext();
    const image = await addImage(context, "a:1");
    const vm = await addVm(context, image);
    await rm(context.vms.path);
    const report = await prune(context, { all: true });
    expect(report.images).toHaveLength(1);
    expect(report.postponed).toEqual([expect.stringContaining(`VMs that are not on record (${vm.id})`)]);
    expect(await contentsOf(context)).toEqual({ blobs: 0, bases: 1 });
    await rm(vmPathsOf(context.directories, vm.id).rootfs);
    expect((await prune(context, {})).items).toMatchObject([{ kind: "filesystem" }]);
  });

  test("waits for nobody for ever: what is pulled meanwhile stays", async () => {
    const context = await freshContext();
    await addImage(context, "a:1");
    const images = await context.images();
    await images.hold(undefined, async () => {
      expect(await prune(context, { all: true })).toEqual({
        images: [],
        items: [],
        reclaimedBytes: 0,
        postponed: ["images, blobs and filesystems stay while another firectl pulls or reads images"],
      });
    });
    expect((await prune(context, { all: true })).images).toHaveLength(1);
  });

  test("takes stale caches of kernels, and leaves what VMs boot", async () => {
    const context = await freshContext();
    const cache = path.join(context.directories.data, "kernel-files");
    const image = await addImage(context, "a");
    const [used, unused] = ["used", "unused"].map((name) => path.join(cache, name));
    for (const directory of [used ?? "", unused ?? ""]) {
      await mkdir(directory, { recursive: true });
      await writeFile(path.join(directory, "vmlinux"), "kernel");
    }
    const vm = await addVm(context, image);
    await context.vms.update(([record]) => ({
      records: record === undefined ? [] : [{ ...record, kernelPath: path.join(used ?? "", "vmlinux") }],
      result: undefined,
    }));
    const killed = path.join(context.directories.data, "kernels", ".killed.tmp");
    await mkdir(killed, { recursive: true });
    await writeFile(path.join(killed, "vmlinux"), "x".repeat(5000));
    const { items } = await prune(context, {});
    expect(items.map(({ kind, name }) => [kind, name])).toEqual([
      ["cache", "kernel-files/unused"],
      ["cache", "kernels/.killed.tmp"],
    ]);
    expect(items[1]?.bytes).toBeGreaterThan(4096);
    await dropVm(context, vm);
    expect((await prune(context, {})).items).toMatchObject([{ kind: "cache", name: "kernel-files/used" }]);
  });

  test("takes templates of disks of sizes that no VM has, and what was left half-written", async () => {
    const context = await freshContext();
    const vm = await addVm(context, await addImage(context, "a"));
    const sizes = [10 * 2 ** 30, vm.diskBytes, 12_345_678];
    const files = [...sizes.map(String), `${sizes[0]}.${vm.id}.tmp`];
    const directory = blankDisksDirectory(context.directories.data);
    await mkdir(directory, { recursive: true });
    for (const name of files) await writeFile(path.join(directory, name), "a template");
    const { items } = await prune(context, {});
    expect(items.map(({ name }) => name).sort()).toEqual([
      `blank-disks/${sizes[0]}.${vm.id}.tmp`,
      "blank-disks/12345678",
    ]);
    expect((await readdir(directory)).sort()).toEqual(sizes.slice(0, 2).map(String).sort());
  });

  test("takes the initramfs of kernels and agents that are gone", async () => {
    const home = temporaryDirectory();
    const agent = path.join(home, "agent");
    await writeFile(agent, "an agent");
    const context = await freshContext(home, { FIRECTL_AGENT: agent });
    const cacheDir = path.join(context.directories.data, "initramfs");
    const kernels = await context.kernels();
    const [kept, removed] = await Promise.all(
      ["6.1.1-kept", "6.1.2-removed"].map(async (release) => {
        const image = path.join(home, release);
        await writeFile(image, fakeVmlinux(release));
        const kernel = await kernels.add({ image });
        return kernel.name;
      }),
    );
    const archive = async (agentPath: string): Promise<string> =>
      buildInitramfs({ kernel: await kernels.find(kept ?? ""), agentPath, cacheDir });
    const current = await archive(agent);
    const oldAgent = path.join(home, "old agent");
    await writeFile(oldAgent, "an older agent");
    const [stale, booted] = [await archive(oldAgent), path.join(cacheDir, `${"b".repeat(64)}.cpio`)];
    await writeFile(booted, "what a VM boots");
    await addVm(context, await addImage(context, "a"));
    await context.vms.update((records) => ({
      records: records.map(({ machine, ...record }) => ({
        ...record,
        machine:
          machine === null ? null : { ...machine, bootSource: { ...machine.bootSource, initrdPath: booted } },
      })),
      result: undefined,
    }));
    await kernels.remove(removed ?? "");
    const { items } = await prune(context, {});
    expect(items.map(({ name }) => name)).toContain(`initramfs/${path.basename(stale)}`);
    expect(items.every(({ kind }) => kind === "cache")).toBe(true);
    const left = (await readdir(cacheDir)).filter((name) => name.endsWith(".cpio")).sort();
    expect(left).toEqual([current, booted].map((file) => path.basename(file)).sort());
    // Nobody can tell what is current without an agent.
    await rm(agent);
    await archive(oldAgent);
    expect((await prune(context, {})).items).toEqual([]);
  });

  test("takes entries that lead nowhere any more", async () => {
    const context = await freshContext();
    const image = await addImage(context, "a:1");
    await addImage(context, "b:1");
    const blobs = path.join(context.directories.data, "images/blobs/sha256");
    await rm(path.join(blobs, image.manifestDigest.slice("sha256:".length)));
    await prune(context, {});
    expect(await names(context)).toEqual(["docker.io/library/b:1"]);
    expect(await contentsOf(context)).toMatchObject({ blobs: 3 });
  });
});

describe("diskUsage", () => {
  test("counts what images share once, with one that is in use", async () => {
    const context = await freshContext();
    const shared = layerOf("shared", Buffer.alloc(200_000, "incompressible? no matter"));
    const one = await addImage(context, "one", makeImage({ layers: [shared, layerOf("x")] }));
    const two = await addImage(context, "two", makeImage({ layers: [shared] }));
    await tagImage(context, "two", "two:2");
    const vm = await addVm(context, two, { name: "web" });
    await addVm(context, two, { name: "job", state: "running" });
    const partial = path.join(context.directories.data, "images/ingest", `${"1".repeat(64)}.partial`);
    await writeFile(partial, "begun");
    const items = await diskUsage(context, await context.vms.read());
    expect(items.map(({ kind, name, inUse }) => [kind, name, inUse])).toEqual([
      ["image", "two:latest, two:2", true],
      ["image", "one:latest", false],
      ["filesystem", `base/${path.basename(vm.machine?.drives[0]?.path ?? "")}`, true],
      ["vm", "web", false],
      ["vm", "job", true],
      ["download", `images/ingest/${path.basename(partial)}`, false],
    ]);
    const report = await prune(context, { all: true });
    const unused = items.filter(({ kind, inUse }) => !inUse && kind !== "vm");
    expect(report.reclaimedBytes).toBe(unused.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(report.images).toEqual([{ untagged: ["one:latest"], deleted: [one.manifestDigest] }]);
  });

  test("of nothing is nothing", async () => {
    expect(await diskUsage(await freshContext(), [])).toEqual([]);
  });

  test("shows a download that is under way as in use", async () => {
    const context = await freshContext();
    await addImage(context, "a");
    const { ContentStore, digestOf } = await import("../image/store/content-store.ts");
    const store = new ContentStore(path.join(context.directories.data, "images"));
    const digest = digestOf("1".repeat(64));
    await writeFile(store.partialPath(digest), "begun");
    await store.exclusively(digest, undefined, async () => {
      const items = await diskUsage(context, []);
      expect(items.find(({ kind }) => kind === "download")).toMatchObject({ inUse: true });
    });
  });
});

describe("inspectImage", () => {
  test("has docker's fields and ours", async () => {
    const context = await freshContext();
    const image = makeImage({
      config: { Labels: { a: "b" }, ExposedPorts: { "80/tcp": {} }, OnBuild: ["x"] },
    });
    const local = await addImage(context, "a:1", image);
    await tagImage(context, "a:1", "registry.example:5000/b:2");
    const vm = await addVm(context, local, { name: "web" });
    const records = await context.vms.read();
    const found = await inspectImage(context, records, "a:1");
    expect(found).toMatchObject({
      Id: image.manifest.digest,
      RepoTags: ["a:1", "registry.example:5000/b:2"],
      Created: "2026-01-02T03:04:05Z",
      Config: { Cmd: ["/bin/true"], Labels: { a: "b" }, ExposedPorts: { "80/tcp": {} }, OnBuild: ["x"] },
      Os: "linux",
      Size: local.sizeBytes,
      RootFS: { Type: "layers", Layers: local.layers.map(({ diffId }) => diffId) },
      ConfigDigest: image.config.digest,
      Layers: [{ Digest: image.layers[0]?.digest, Size: image.layers[0]?.size }],
      Filesystems: [{ Path: vm.machine?.drives[0]?.path }],
      VMs: [{ Id: vm.id, Name: "web", State: "exited" }],
    });
    for (const other of [
      image.manifest.digest,
      image.config.digest.slice(7, 20),
      `a@${image.manifest.digest}`,
    ]) {
      expect(await inspectImage(context, records, other)).toEqual(found);
    }
    await expect(inspectImage(context, records, "gone")).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
    await removeImage(context, "a:1", {});
    expect(await inspectImage(context, records, image.manifest.digest)).toMatchObject({
      RepoTags: ["registry.example:5000/b:2"],
    });
  });
});
