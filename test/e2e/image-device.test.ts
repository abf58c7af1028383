import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CpioEntry, packCpio } from "../../src/kernel/cpio.ts";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox, SHARED_DATA } from "./support/firectl.ts";

/** What a hostile guest, which needs neither firectl's agent nor its rules, does to the memory it was given. */
const VANDAL = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
while ! [ -b /dev/pmem0 ]; do /bin/busybox sleep 0.1; done
/bin/busybox dd if=/dev/pmem0 bs=4096 count=1 2>/dev/null | /bin/busybox md5sum
echo 'writing to /dev/pmem0'
/bin/busybox yes vandal | /bin/busybox dd of=/dev/pmem0 bs=4096 count=2 conv=fsync 2>/dev/null
echo "has written: $?"
/bin/busybox reboot -f
`;

function sumOf(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

onEveryBackend("the image's device", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const shell = (device: string, script: string, ...flags: string[]) =>
    sandbox.call([
      ...["run", "--rm", "--vmm", vmm, "--image-device", device, "-u", "0", "--entrypoint", "/bin/sh"],
      ...[...flags, `oci:${IMAGES}/app`, "-c", script],
    ]);
  const basePath = () => {
    const [name] = readdirSync(path.join(sandbox.data, "base")).filter((file) => file.endsWith(".ext4"));
    if (name === undefined) throw new Error("no base has been built");
    return path.join(sandbox.data, "base", name);
  };

  test("as a disk, the image is vda", async () => {
    const { stdout, status } = await shell(
      "block",
      "ls /sys/block | tr '\\n' ' '; cat /proc/fs/ext4/vda/options",
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/^vda vdb vdc /);
    expect(stdout).not.toContain("dax");
  });

  test.skipIf(vmm === "firecracker")("as memory it is refused, naming what lacks it", async () => {
    const { stderr, status } = await shell("pmem", "true");
    expect(stderr).toContain("--image-device pmem: QEMU's microvm machine has no persistent memory");
    expect(stderr).toContain("--image-device block");
    expect(status).toBe(125);
  });

  test.skipIf(vmm === "qemu")("as memory it is mounted with DAX, and that is the default", async () => {
    for (const device of ["pmem", "auto"]) {
      const { stdout, stderr, status } = await shell(
        device,
        "ls /sys/block | tr '\\n' ' '; cat /proc/fs/ext4/pmem0/options; cat /etc/group",
      );
      expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
      expect(stdout).toMatch(/^pmem0 vda vdb /);
      expect(stdout).toMatch(/ ro$/m);
      expect(stdout).toMatch(/^dax=always$/m);
      expect(stdout).toContain("extra:x:3456:other,web");
    }
  });

  test.skipIf(vmm === "qemu")(
    "a workload changes the image for itself, also over stop, start and export",
    async () => {
      const before = await baseAfterFirstRun();
      const name = ["--name", "changer"];
      const run = await sandbox.call([
        ...[
          "run",
          "-d",
          ...name,
          "--vmm",
          vmm,
          "--image-device",
          "pmem",
          "-u",
          "0",
          "--entrypoint",
          "/bin/sh",
        ],
        ...[
          `oci:${IMAGES}/app`,
          "-c",
          "echo more >> /etc/group; rm /etc/passwd; sync; while :; do sleep 1; done",
        ],
      ]);
      expect(run).toMatchObject({ stderr: "", status: 0 });
      await sandbox.ok(["stop", "--keep", "-t", "1", "changer"]);
      await sandbox.ok(["start", "changer"]);
      expect(
        await sandbox.ok(["exec", "changer", "/bin/sh", "-c", "ls /sys/block; tail -n 2 /etc/group"]),
      ).toMatch(/^pmem0\nvda\nvdb\n(?:.*\n)?more\n$/);
      const archive = path.join(sandbox.directory, "changer.tar");
      await sandbox.ok(["export", "-o", archive, "changer"]);
      const tar = await readFile(archive, "latin1");
      expect(tar).toContain("extra:x:3456:other,web\nmore\n");
      expect(tar).not.toContain("web:x:1234:2345:Web");
      await sandbox.ok(["rm", "-f", "changer"]);
      expect(sumOf(basePath())).toBe(before);
    },
  );

  test.skipIf(vmm === "qemu")("its own root cannot reach the device of a workload's image", async () => {
    const { stdout } = await shell(
      "pmem",
      "ls /dev/pmem0; mknod /tmp/image b $(tr : ' ' < /sys/block/pmem0/dev); echo hostile | dd of=/tmp/image 2>&1; true",
    );
    expect(stdout).toContain("Operation not permitted");
  });

  test.skipIf(vmm === "qemu")(
    "a hostile kernel cannot write to the host's file through its memory",
    async () => {
      const before = await baseAfterFirstRun();
      const configuration = await vandalConfiguration(basePath());
      const { stdout } = await sandbox.call(["run", "--rm", "--vmm", vmm, "--config", configuration]);
      const md5 = createHash("md5").update(readFileSync(basePath()).subarray(0, 4096)).digest("hex");
      expect(stdout).toContain(`${md5}  -`);
      expect(stdout).toContain("writing to /dev/pmem0");
      expect(stdout).toContain("has written: 0");
      expect(sumOf(basePath())).toBe(before);
    },
  );

  /** The sum of the base that all these tests share. */
  async function baseAfterFirstRun(): Promise<string> {
    const { status } = await shell("pmem", "true");
    expect(status).toBe(0);
    return sumOf(basePath());
  }

  /** A machine with the image attached as firectl attaches it, and a guest that obeys nobody. */
  async function vandalConfiguration(base: string): Promise<string> {
    const kernels = path.join(SHARED_DATA, "kernels");
    const kernel = path.join(kernels, readFileSync(path.join(kernels, ".default"), "utf8").trim());
    const manifest = JSON.parse(readFileSync(path.join(kernel, "kernel.json"), "utf8")) as {
      image: string;
      modules: ReadonlyArray<{ name: string }>;
    };
    const entries: CpioEntry[] = [
      { kind: "directory", name: "dev", mode: 0o755 },
      { kind: "character device", name: "dev/console", mode: 0o600, major: 5, minor: 1 },
      { kind: "directory", name: "proc", mode: 0o755 },
      { kind: "directory", name: "bin", mode: 0o755 },
      { kind: "file", name: "bin/busybox", mode: 0o755, contents: readFileSync("/bin/busybox") },
      { kind: "directory", name: "modules", mode: 0o755 },
      { kind: "file", name: "init", mode: 0o755, contents: Buffer.from(VANDAL) },
    ];
    // Dependencies stand before what needs them in the manifest, too.
    for (const [index, { name }] of manifest.modules.entries()) {
      const contents = readFileSync(path.join(kernel, "modules", `${name}.ko`));
      entries.push({
        kind: "file",
        name: `modules/${String(index).padStart(2, "0")}-${name}.ko`,
        mode: 0o644,
        contents,
      });
    }
    await writeFile(path.join(sandbox.directory, "vandal.cpio"), packCpio(entries));
    await copyFile(path.join(kernel, manifest.image), path.join(sandbox.directory, "kernel"));
    const file = path.join(sandbox.directory, "vandal.json");
    await writeFile(
      file,
      JSON.stringify({
        "boot-source": {
          kernel_image_path: "kernel",
          initrd_path: "vandal.cpio",
          boot_args: "console=ttyS0 reboot=k panic=-1 quiet i8042.nokbd cryptomgr.notests",
        },
        drives: [],
        pmem: [{ id: "rootfs", path_on_host: base, root_device: false, read_only: true }],
        "machine-config": { vcpu_count: 1, mem_size_mib: 256 },
      }),
    );
    return file;
  }
});
