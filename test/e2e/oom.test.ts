import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

const IMAGE = `oci:${IMAGES}/layers`;
/** Keeps in memory all that it reads. */
const HOG = "tail /dev/zero";

onEveryBackend("a workload that runs out of memory", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  test("has ended with 137, killed for want of memory, in its own control group", async () => {
    const argv = ["run", "--vmm", vmm, "--name", "hog", "-m", "128m", IMAGE, "/bin/sh", "-c", `exec ${HOG}`];
    const ended = await sandbox.call(argv);
    expect(ended.status).toBe(137);
    expect(ended.stderr).toContain("ran out of memory");
    expect(sandbox.records()).toMatchObject([{ state: "exited", exitCode: 137, oomKilled: true }]);
    await sandbox.ok(["rm", "hog"]);
  });

  test("is told of it and lives on when a child of its is what was killed", async () => {
    const script = `${HOG}; echo "the child: $?"; cat /sys/fs/cgroup/memory.events`;
    const argv = ["run", "--vmm", vmm, "--name", "parent", "-m", "128m", IMAGE, "/bin/sh", "-c", script];
    const ended = await sandbox.call(argv);
    expect(ended.stdout).toMatch(/the child: 137\n[\s\S]*oom_kill 1\n/);
    expect(sandbox.records()).toMatchObject([{ exitCode: 0, oomKilled: true }]);
    await sandbox.ok(["rm", "parent"]);
  });

  test("leaves the agent and others of the VM alone", async () => {
    await sandbox.ok(["run", "-d", "--vmm", vmm, "--name", "vm", "-m", "128m", IMAGE, "sleep", "1000"]);
    const hog = await sandbox.call(["exec", "vm", "/bin/sh", "-c", `exec ${HOG}`]);
    expect(hog.status).toBe(137);
    expect(await sandbox.ok(["exec", "vm", "echo", "alive"])).toBe("alive\n");
    expect(sandbox.records()).toMatchObject([{ state: "running" }]);
    await sandbox.ok(["rm", "-f", "vm"]);
  });
});
