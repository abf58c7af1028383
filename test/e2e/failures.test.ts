import { existsSync, readdirSync } from "node:fs";
import { cp, mkdir, open, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend, findOnPath, onEveryBackend } from "./support/backends.ts";
import { type CallOptions, type Finished, IMAGES, Sandbox, SHARED_DATA } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const IMAGE = `oci:${IMAGES}/layers`;
const STAND_IN = path.resolve(import.meta.dirname, "../fixtures/standin-firecracker.mjs");
const QEMU_WITHOUT_QMP = path.resolve(import.meta.dirname, "../fixtures/qemu-without-qmp.sh");
const vmm = anyBackend();

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await Sandbox.create();
});
afterAll(async () => {
  await sandbox[Symbol.asyncDispose]();
});

/** Expects `run` to fail as firectl's own failure: 125, nothing on stdout, nothing left. */
async function failedRun(
  args: readonly string[],
  options: CallOptions & { in?: Sandbox } = {},
): Promise<Finished> {
  const where = options.in ?? sandbox;
  const finished = await where.call(["run", "-d", ...args], options);
  expect(finished, finished.stderr).toMatchObject({ stdout: "", status: 125 });
  expect(finished.stderr).toMatch(/^firectl: /);
  await where.expectNothingLeft();
  return finished;
}

const largestBlob = async (layout: string): Promise<string> => {
  const directory = path.join(layout, "blobs/sha256");
  const files = (await readdir(directory)).map((name) => path.join(directory, name));
  const sized = await Promise.all(files.map(async (file) => ({ file, size: (await stat(file)).size })));
  return sized.reduce((best, next) => (next.size > best.size ? next : best)).file;
};

describe("a bad image", () => {
  test.each([
    ["a layout that is not there", "oci:/not/there", "/not/there"],
    ["a tag that is not there", `${IMAGE}:nothing`, "nothing"],
    ["a registry that does not answer", "127.0.0.1:1/some/image", "127.0.0.1:1"],
  ])("%s: the message names the stage and the image", async (_name, image, named) => {
    const { stderr } = await failedRun(["--vmm", vmm, image]);
    expect(stderr).toContain(`obtaining image ${image} failed: `);
    expect(stderr).toContain(named);
  });

  test("a platform that it does not have", async () => {
    const other = process.arch === "x64" ? "linux/arm64" : "linux/amd64";
    const { stderr } = await failedRun(["--vmm", vmm, "--platform", other, IMAGE]);
    expect(stderr).toContain(`obtaining image ${IMAGE} failed: `);
    expect(stderr).toContain(other);
  });

  test("a layer with one byte changed: the digest is told, and the layer is not kept", async () => {
    const layout = path.join(sandbox.directory, "corrupt");
    await cp(`${IMAGES}/layers`, layout, { recursive: true });
    const blob = await largestBlob(layout);
    const file = await open(blob, "r+");
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, Math.floor(size / 2));
    await file.write(Buffer.from([(buffer[0] ?? 0) ^ 0xff]), 0, 1, Math.floor(size / 2));
    await file.close();
    const { stderr } = await failedRun(["--vmm", vmm, `oci:${layout}`]);
    expect(stderr).toContain(`obtaining image oci:${layout} failed: `);
    expect(stderr).toContain(path.basename(blob));
    expect(stderr).toContain("digest");
    expect(existsSync(path.join(sandbox.data, "images/blobs/sha256", path.basename(blob)))).toBe(false);
  });

  test("a layer that wants out of the image is refused by name, and writes nothing", async () => {
    const layout = path.join(sandbox.directory, "hostile");
    const tar = path.join(sandbox.directory, "hostile.tar");
    await writeFile(path.join(sandbox.directory, "escape"), "out\n");
    const outwards = ["-P", "--transform", "s,^,../../,", "-cf", tar, "-C", sandbox.directory, "escape"];
    await run("tar", outwards);
    await rm(path.join(sandbox.directory, "escape"));
    await run("umoci", ["init", "--layout", layout]);
    await run("umoci", ["new", "--image", `${layout}:latest`]);
    await run("umoci", ["raw", "add-layer", "--image", `${layout}:latest`, tar]);
    const { stderr } = await failedRun(["--vmm", vmm, `oci:${layout}`, "/bin/true"]);
    expect(stderr).toContain(`building the root filesystem of oci:${layout} failed: `);
    expect(stderr).toContain("../../escape");
    expect(existsSync(path.join(sandbox.directory, "escape"))).toBe(false);
  });
});

const mountable = process.getuid?.() === 0 ? undefined : "mounting a small disk needs root";
describe.skipIf(mountable !== undefined)(`a full disk${mountable ? ` (skipped: ${mountable})` : ""}`, () => {
  test.each([
    // What comes in and what is built of it meanwhile have the space in common.
    ["256k", /obtaining image|building the root filesystem/],
    ["3m", /building the root filesystem/],
  ])("of %s: %s is what failed, and the space is free again", async (size, stage) => {
    await using small = await Sandbox.create();
    await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "firectl-test", small.data]);
    try {
      for (const shared of ["kernels", "initramfs"])
        await symlink(path.join(SHARED_DATA, shared), path.join(small.data, shared));
      const finished = await small.call(["run", "-d", "--vmm", vmm, IMAGE, "/bin/true"]);
      expect(finished, finished.stderr).toMatchObject({ stdout: "", status: 125 });
      expect(finished.stderr).toMatch(stage);
      expect(finished.stderr).toMatch(/no space left|disk is full/i);
      expect(small.remains().filter((line) => !line.startsWith("firectl-test "))).toEqual([]);
    } finally {
      await run("umount", [small.data]);
    }
  });
});

describe("a VMM that does not do its part", () => {
  test("QEMU ends at its start", async () => {
    const { stderr } = await failedRun(["--vmm", "qemu", IMAGE], { env: { FIRECTL_QEMU: "/bin/false" } });
    expect(stderr).toContain("starting the microVM with qemu failed: ");
    expect(stderr).toContain("/bin/false");
  });

  test("a program that is not there", async () => {
    const { stderr } = await failedRun(["--vmm", "qemu", IMAGE], { env: { FIRECTL_QEMU: "/not/there" } });
    expect(stderr).toContain("choosing VMM and kernel failed: FIRECTL_QEMU names /not/there");
  });

  test("Firecracker refuses the machine: its own words are told", async (context) => {
    if (!existsSync("/dev/kvm")) context.skip("no /dev/kvm: firectl would not start the stand-in");
    const env = { FIRECTL_FIRECRACKER: STAND_IN, STANDIN_REFUSES: "/machine-config" };
    const { stderr } = await failedRun(["--vmm", "firecracker", IMAGE], { env });
    expect(stderr).toContain("starting the microVM with firecracker failed: ");
    expect(stderr).toContain("/machine-config");
    expect(stderr).toContain("The stand-in refuses this.");
  });

  test("no kernel is installed: says how to get one", async (context) => {
    if (existsSync(`/boot/vmlinuz-${os.release()}`)) context.skip("the kernel of this host would be taken");
    await using bare = await Sandbox.create();
    await rm(path.join(bare.data, "kernels"));
    // Without apt, firectl cannot help itself.
    const programs = path.join(bare.directory, "bin");
    await mkdir(programs);
    for (const name of ["node", "qemu-system-x86_64", "vhost-device-vsock", "firecracker", "flock"]) {
      const found = findOnPath(name);
      if (found !== undefined) await symlink(found, path.join(programs, name));
    }
    const { stderr } = await failedRun(["--vmm", vmm, IMAGE], { in: bare, env: { PATH: programs } });
    expect(stderr).toContain("choosing VMM and kernel failed: ");
    expect(stderr).toContain("kernel");
    expect(stderr).toMatch(/^hint: .*firectl (setup|kernel add)/m);
  });

  test("a kernel that is not one", async () => {
    const file = path.join(sandbox.directory, "not-a-kernel");
    await writeFile(file, "#!/bin/sh\n".repeat(1000));
    const { stderr } = await failedRun(["--vmm", vmm, "--kernel", file, IMAGE]);
    expect(stderr).toContain(file);
  });
});

onEveryBackend("a guest that does not come up", (backend) => {
  test("the kernel panics: its last words are told", async () => {
    const panicking = ["--kernel-args", "rdinit=/nonexistent init=/nonexistent"];
    const { stderr } = await failedRun(["--vmm", backend, ...panicking, IMAGE, "/bin/true"]);
    expect(stderr).toContain(`starting the microVM with ${backend} failed: `);
    expect(stderr).toContain("the guest ended before its workload started");
    expect(stderr).toContain("Kernel panic - not syncing");
    expect(stderr).toMatch(/^hint: firectl run with --kernel-args loglevel=7 /m);
    const small = await failedRun(["--vmm", backend, "-m", "64m", ...panicking, IMAGE, "/bin/true"]);
    expect(small.stderr).toMatch(/^hint: its kernel may need more than 64 MiB: try -m 128m/m);
  });

  test.runIf(backend === "qemu")(
    "it ends before QEMU has answered on QMP: that is no failure of QEMU's",
    async () => {
      const env = { FIRECTL_QEMU: QEMU_WITHOUT_QMP, QEMU: findOnPath("qemu-system-x86_64") };
      const args = ["--vmm", backend, "--kernel-args", "rdinit=/nonexistent init=/nonexistent", IMAGE];
      const { stderr } = await failedRun(args, { env });
      expect(stderr).toContain("the guest ended before its workload started");
      expect(stderr).toContain("Kernel panic - not syncing");
    },
  );

  test("nobody answers in it: says what was waited for, and for how long", async () => {
    // As /init, busybox is an init that starts shells on the console and waits.
    const busybox = findOnPath("busybox") ?? "/bin/busybox";
    const env = { FIRECTL_AGENT: busybox, FIRECTL_BOOT_TIMEOUT: "4" };
    const { stderr } = await failedRun(["--vmm", backend, IMAGE, "/bin/true"], { env });
    expect(stderr).toContain(`starting the microVM with ${backend} failed: `);
    expect(stderr).toContain("timed out after 4 s waiting for the guest to start its workload");
    expect(stderr).toContain("; the guest's agent had not started; ");
  });
});

describe("vms.json cannot be read", () => {
  test.each([
    ["not JSON", "[{"],
    ["not a list of records", '[{"id": "mine"}]'],
  ])("%s: it is set aside untouched, told, and never overwritten", async (_name, text) => {
    await using other = await Sandbox.create();
    await mkdir(path.dirname(other.stateFile), { recursive: true });
    await writeFile(other.stateFile, text);
    const refused = await other.call(["run", "-d", "--vmm", vmm, IMAGE, "/bin/true"]);
    expect(refused).toMatchObject({ stdout: "", status: 125 });
    expect(refused.stderr).toContain(other.stateFile);
    const [aside = ""] = (await readdir(path.dirname(other.stateFile))).filter((name) =>
      name.startsWith("vms.json.unreadable-"),
    );
    expect(refused.stderr).toContain(aside);
    expect(await readFile(path.join(path.dirname(other.stateFile), aside), "utf8")).toBe(text);
    expect(await other.ok(["list", "-a", "-q"])).toBe("");
    await other.expectNothingLeft();
  });
});

test.each([
  [["--cpus", "0", IMAGE], "--cpus"],
  [["--cpus", "two", IMAGE], "two"],
  [["-m", "1", IMAGE], "less than 64m"],
  [["-m", "lots", IMAGE], "lots"],
  [["--disk-size", "1k", IMAGE], "--disk-size"],
  [["--name", "a b", IMAGE], "a b"],
  [["--vmm", "xen", IMAGE], "xen"],
  [["--pull", "sometimes", IMAGE], "sometimes"],
  [["--storage", "tape", IMAGE], "tape"],
  [["--platform", "amiga", IMAGE], "amiga"],
  [["--stop-signal", "SIGNOPE", IMAGE], "SIGNOPE"],
  [["-w", "relative", IMAGE], "relative"],
  [["-e", "=x", IMAGE], "=x"],
  [["--hostname", "-", IMAGE], "--hostname"],
  [["--env-file", "/not/there", IMAGE], "/not/there"],
  [["--label-file", "/not/there", IMAGE], "/not/there"],
  [["--kernel-args", "firectl.control=vda", IMAGE], "firectl.control"],
  [["--no-such-flag", IMAGE], "--no-such-flag"],
  [["oci:"], "oci:"],
  [["UPPER CASE"], "UPPER CASE"],
  [[], "no image"],
  [["--config", "vm.json", IMAGE], "--config"],
  [["--config", "vm.json", "-m", "1g"], "--memory"],
])("run %j is refused before anything is made", async (args, named) => {
  await using fresh = await Sandbox.create();
  const { stderr } = await failedRun(args, { in: fresh });
  expect(stderr).toContain(named);
  expect(fresh.records()).toEqual([]);
  expect(readdirSync(fresh.data).sort()).toEqual(["initramfs", "kernels"]);
});
