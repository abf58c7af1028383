import { readdirSync } from "node:fs";
import { rm, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

onEveryBackend("going on from a snapshot of the boot", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const run = async (script: string, ...flags: string[]) =>
    sandbox.ok(["run", "--rm", "--vmm", vmm, ...flags, `oci:${IMAGES}/layers`, "/bin/sh", "-c", script]);
  const kept = () => {
    const directory = path.join(sandbox.data, "boot-snapshots");
    try {
      const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
      return names
        .filter((name) => path.basename(name) === "memory")
        .map((name) => path.join(directory, name));
    } catch {
      return [];
    }
  };
  /** What is on the kernel's own record of itself, and of this start: the age of a guest that has booted is small. */
  const SELF = [
    "cat /proc/sys/kernel/random/boot_id",
    "head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; echo",
    "od -An -v -tx1 -j 0 -N 4096 /proc/self/auxv | tr -d ' \\n'; echo",
    "hostname",
  ].join("; ");

  test.skipIf(vmm === "qemu")("no two guests of a snapshot have a random number in common", async () => {
    const first = (await run(SELF)).split("\n");
    expect(kept()).toHaveLength(1);
    const second = (await run(SELF)).split("\n");
    const third = (await run(SELF)).split("\n");
    expect(kept()).toHaveLength(1);
    // Boot id, random bytes, the addresses that the kernel chose for a program, host name.
    for (const line of [0, 1, 2, 3]) {
      expect(new Set([first[line], second[line], third[line]]).size).toBe(3);
    }
  });

  test.skipIf(vmm === "qemu")("the time is right from the start", async () => {
    await run("true");
    const before = Date.now();
    const [guest, age] = (await run("date +%s; cut -d. -f1 /proc/uptime")).split("\n").map(Number);
    // In whole seconds; without KVM's clock device the guest knows what the host wrote before it let it go on.
    expect((guest ?? 0) * 1000).toBeGreaterThan(before - 1000);
    expect((guest ?? 0) * 1000).toBeLessThan(Date.now() + 1000);
    expect(age).toBeLessThan(60);
  });

  test.skipIf(vmm === "qemu")("disks of the same size are each VM's own", async () => {
    for (const text of ["one", "two"]) {
      await sandbox.ok(["volume", "create", text]);
      await run(`echo ${text} > /v/text`, "-v", `${text}:/v`);
    }
    for (const text of ["one", "two"]) expect(await run("cat /v/text", "-v", `${text}:/v`)).toBe(`${text}\n`);
    await sandbox.ok(["volume", "rm", "one", "two"]);
  });

  test.skipIf(vmm === "qemu")(
    "a start that is interrupted does not cost the others their snapshot",
    async () => {
      await run("true");
      const before = kept();
      for (const afterMs of [1500, 2500]) {
        const started = sandbox.start([
          ...[
            "run",
            "--rm",
            "--vmm",
            vmm,
            `oci:${IMAGES}/layers`,
            "/bin/sh",
            "-c",
            "while :; do sleep 1000; done",
          ],
        ]);
        await sleep(afterMs);
        started.kill("SIGINT");
        await started.finished;
      }
      expect(kept()).toEqual(before);
    },
  );

  test.skipIf(vmm === "qemu")("a snapshot that has been damaged is found out, and the VM boots", async () => {
    await run("true");
    for (const memory of kept()) await truncate(memory, 4096);
    expect(await run("echo well")).toBe("well\n");
    for (const memory of kept()) await writeFile(path.join(path.dirname(memory), "state"), "nonsense");
    expect(await run("echo well")).toBe("well\n");
  });

  test("never leaves none and uses none; a removed image's are removed", async () => {
    await rm(path.join(sandbox.data, "boot-snapshots"), { recursive: true, force: true });
    expect(await run("echo well", "--boot-snapshot", "never")).toBe("well\n");
    expect(kept()).toEqual([]);
    if (vmm === "qemu") return;
    await run("true");
    expect(kept()).toHaveLength(1);
    await sandbox.ok(["rmi", `oci:${IMAGES}/layers`]);
    expect(kept()).toEqual([]);
  });
});
