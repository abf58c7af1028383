import { existsSync, readdirSync } from "node:fs";
import { chmod, copyFile, mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findOnPath, onEveryBackend } from "./support/backends.ts";
import { Sandbox, SHARED_DATA } from "./support/firectl.ts";
import { run } from "./support/run.ts";

/** A guest of its own takes some seconds to boot. */
const SOON = { timeout: 120_000, interval: 200 };

/**
 * Nothing of firectl's: prints a line, shows its disk, and does what the kernel's command line says. The power button,
 * Ctrl-Alt-Del, is to be its own affair, which it does not care for: a kernel would reboot as soon as it has a keyboard.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo 0 >/proc/sys/kernel/ctrl-alt-del
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
echo "guest of its own: $(/bin/busybox cat /proc/cmdline)"
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox head -n 1 /dev/vda
case $(/bin/busybox cat /proc/cmdline) in
*ends*) /bin/busybox sleep 1; /bin/busybox reboot -f ;;
esac
while :; do /bin/busybox sleep 1000; done
`;

onEveryBackend("run --config", (vmm) => {
  let sandbox: Sandbox;
  let kernel: string;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    kernel = await makeParts(sandbox.directory);
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  /** Writes a configuration and returns its path; the paths in it are relative to itself. */
  async function configuration(name: string, changes: Record<string, unknown> = {}): Promise<string> {
    const file = path.join(sandbox.directory, `${name}.json`);
    const value = {
      "boot-source": {
        kernel_image_path: kernel,
        initrd_path: "initrd.cpio",
        boot_args: "console=ttyS0 reboot=k panic=-1 quiet stays",
      },
      drives: [{ drive_id: "data", path_on_host: "disk.img", is_root_device: false, is_read_only: true }],
      "machine-config": { vcpu_count: 1, mem_size_mib: 160 },
      ...changes,
    };
    await writeFile(file, JSON.stringify(value, undefined, 2));
    return file;
  }
  const ending = (word: string) => ({
    "boot-source": {
      kernel_image_path: kernel,
      initrd_path: "initrd.cpio",
      boot_args: `console=ttyS0 reboot=k panic=-1 quiet ${word}`,
    },
  });

  test("it runs detached, is listed and inspected, shows its console, and is stopped", async () => {
    const file = await configuration("stays");
    const flags = ["-d", "--vmm", vmm, "--name", "raw", "--label", "kind=raw"];
    const id = (await sandbox.ok(["run", ...flags, "--config", file])).trim();
    const consoleText = () => sandbox.ok(["logs", "--console", "raw"]);
    await expect.poll(consoleText, SOON).toContain("guest of its own:");
    await expect.poll(consoleText, SOON).toContain("contents of the disk");
    expect(await consoleText()).toContain("stays");
    expect(JSON.parse(await sandbox.ok(["list", "--format", "json", "--no-trunc"]))).toMatchObject({
      ID: id,
      Name: "raw",
      Image: file,
      State: "running",
      MemoryBytes: 160 * 1024 * 1024,
      Labels: { kind: "raw" },
    });
    const [record] = JSON.parse(await sandbox.ok(["inspect", "raw"]));
    expect(record).toMatchObject({ configPath: file, kernelPath: kernel, workload: null, vmm });
    expect(await readFile(`/proc/${record.firecrackerPid}/cmdline`, "latin1")).not.toBe("");

    const logs = await sandbox.call(["logs", "raw"]);
    expect(logs.status).toBe(2);
    expect(logs.stderr).toContain("--console");
    const exec = await sandbox.call(["exec", "raw", "/bin/true"]);
    expect(exec.status).toBe(125);
    expect(exec.stderr).toContain("agent");
    for (const command of ["kill", "stop"]) {
      expect(await sandbox.call([command, "-s", "USR1", "raw"])).toMatchObject({
        status: 2,
        stderr: expect.stringContaining("it has no agent that would take SIGUSR1"),
      });
    }

    expect(await sandbox.ok(["stop", "-t", "1", "raw"])).toBe("raw\n");
    await sandbox.expectNothingLeft();
    for (const kept of ["disk.img", "initrd.cpio", "stays.json"])
      expect(existsSync(path.join(sandbox.directory, kept))).toBe(true);
  });

  test("in the foreground its console is our stdout, and its end is ours", async () => {
    const file = await configuration("ends", ending("ends"));
    const finished = await sandbox.call(["run", "--vmm", vmm, "--name", "short", "--config", file]);
    expect(finished, finished.stderr).toMatchObject({ status: 0, stderr: "" });
    expect(finished.stdout).toContain("contents of the disk");
    expect(sandbox.records()).toMatchObject([{ name: "short", state: "exited", exitCode: 0 }]);
    expect(await sandbox.ok(["wait", "short"])).toBe("0\n");
    expect(await sandbox.ok(["logs", "--console", "short"])).toContain("guest of its own");
    const start = await sandbox.call(["start", "short"]);
    expect(start.status).toBe(2);
    expect(start.stderr).toContain(file);
    await sandbox.ok(["rm", "short"]);
    await sandbox.expectNothingLeft();
  });

  test("--rm passes its status on, and leaves nothing", async () => {
    const file = await configuration("ends", ending("ends"));
    const finished = await sandbox.call(["run", "--rm", "--vmm", vmm, "--config", file]);
    expect(finished, finished.stderr).toMatchObject({ status: 0, stderr: "" });
    await sandbox.expectNothingLeft();
    await sandbox.ok(["run", "-d", "--rm", "--vmm", vmm, "--config", file]);
    await sandbox.expectNothingLeft();
  });

  test("SIGINT presses its power button, a second one ends it and leaves nothing", async () => {
    const file = await configuration("stays");
    const running = sandbox.start(["run", "--rm", "--vmm", vmm, "--config", file]);
    await expect.poll(running.stdout, SOON).toContain("contents of the disk");
    running.kill("SIGINT");
    // Two signals at once would be one. This guest has no mind for power buttons.
    const heeded = await Promise.race([running.finished, sleep(1000)]);
    expect(heeded).toBeUndefined();
    running.kill("SIGINT");
    expect(await running.finished).toMatchObject({ status: 130, stderr: "" });
    await sandbox.expectNothingLeft();
  });

  test.each([
    ["JSON that is none", "{", "is not JSON"],
    ["no boot source", "{}", "boot-source"],
    ["a section that Firecracker does not know", undefined, "no-such-section"],
    ["a kernel that is not there", undefined, "/not/there"],
    ["a size that no VM can have", undefined, "vcpu_count"],
  ])("%s is refused by name, before anything is made", async (name, text, named) => {
    const wrong: Record<string, Record<string, unknown>> = {
      "no-such-section": { "no-such-section": {} },
      "/not/there": { "boot-source": { kernel_image_path: "/not/there" } },
      vcpu_count: { "machine-config": { vcpu_count: 99, mem_size_mib: 128 } },
    };
    const file = await configuration("wrong", wrong[named]);
    if (text !== undefined) await writeFile(file, text);
    const refused = await sandbox.call(["run", "-d", "--vmm", vmm, "--config", file]);
    expect(refused, name).toMatchObject({ status: 125, stdout: "" });
    expect(refused.stderr).toContain(named);
    await sandbox.expectNothingLeft();
  });

  test("a file that is not there is refused by name", async () => {
    const refused = await sandbox.call(["run", "-d", "--vmm", vmm, "--config", "/not/there.json"]);
    expect(refused).toMatchObject({ status: 125, stdout: "" });
    expect(refused.stderr).toContain("/not/there.json");
  });
});

/** Makes initramfs and disk in `directory`; returns the path of an installed kernel's image. */
async function makeParts(directory: string): Promise<string> {
  const [name = ""] = readdirSync(path.join(SHARED_DATA, "kernels")).filter(
    (entry) => !entry.startsWith("."),
  );
  const installed = path.join(SHARED_DATA, "kernels", name);
  const root = path.join(directory, "root");
  for (const made of ["bin", "proc", "dev", "modules"])
    await mkdir(path.join(root, made), { recursive: true });
  await copyFile(findOnPath("busybox") ?? "/bin/busybox", path.join(root, "bin/busybox"));
  await writeFile(path.join(root, "init"), INIT);
  await chmod(path.join(root, "init"), 0o755);
  const needed = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk"];
  for (const [index, module] of needed.entries()) {
    const file = path.join(installed, "modules", `${module}.ko`);
    if (existsSync(file)) await copyFile(file, path.join(root, "modules", `${index}-${module}.ko`));
  }
  await run("/bin/sh", [
    "-c",
    'cd "$1" && find . | cpio --quiet -o -H newc >"$2"',
    "sh",
    root,
    path.join(directory, "initrd.cpio"),
  ]);
  const disk = path.join(directory, "disk.img");
  await writeFile(disk, "contents of the disk\n");
  await truncate(disk, 1024 * 1024);
  return path.join(
    installed,
    readdirSync(installed).find((entry) => entry.startsWith("vmlinu")) ?? "vmlinuz",
  );
}
