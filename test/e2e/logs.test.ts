import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

onEveryBackend("firectl logs", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const start = (name: string, script: string, ...flags: string[]) =>
    sandbox.ok([
      ...["run", "-d", "--name", name, "--vmm", vmm, ...flags],
      ...[`oci:${IMAGES}/layers`, "/bin/sh", "-c", script],
    ]);
  const pidOf = (name: string) =>
    Number(sandbox.records().find((record) => record["name"] === name)?.["firecrackerPid"]);
  const until = async (isSo: () => boolean) => {
    while (!isSo()) await sleep(20);
  };

  test("tells the streams apart, and goes on over a restart, for several followers", async () => {
    await start("twice", "echo out; echo err >&2; while :; do sleep 1000; done");
    // A shell that has been started has not printed yet.
    await expect
      .poll(() => sandbox.call(["logs", "--details", "twice"]), { timeout: 30_000 })
      .toMatchObject({ status: 0, stdout: "out\n", stderr: "err\n" });
    const first = sandbox.start(["logs", "-f", "twice"]);
    const second = sandbox.start(["logs", "-f", "--tail", "0", "twice"]);
    await until(() => first.stdout() !== "");
    await sandbox.ok(["stop", "--keep", "-t", "0", "twice"]);
    await Promise.all([first.finished, second.finished]);
    await sandbox.ok(["start", "twice"]);
    // Both runs, and the second goes on being followed.
    const third = sandbox.start(["logs", "-f", "-t", "twice"]);
    await until(() => third.stdout().split("\n").length === 3);
    expect(third.stdout()).toMatch(/^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out\n){2}$/);
    await sandbox.ok(["stop", "-t", "0", "twice"]);
    expect((await third.finished).status).toBe(0);
  });

  test("keeps the newest within --log-size", async () => {
    await start(
      "bounded",
      "i=0; while [ $i -lt 60000 ]; do echo $i 012345678901234567890123456789; i=$((i+1)); done",
      "--log-size",
      "1m",
    );
    await sandbox.ok(["wait", "bounded"]);
    const lines = (await sandbox.ok(["logs", "bounded"])).trimEnd().split("\n");
    expect(lines.at(-1)).toBe("59999 012345678901234567890123456789");
    const size = lines.join("\n").length;
    // A quarter is kept free for what comes, and a piece of output has 20 bytes of header: where each line is a piece of
    // its own, 510 kB are left.
    expect(size).toBeGreaterThan(450_000);
    expect(size).toBeLessThan(2 ** 20);
    expect(await sandbox.ok(["logs", "--tail", "2", "bounded"])).toBe(`${lines.slice(-2).join("\n")}\n`);
    await sandbox.ok(["rm", "bounded"]);
    expect(await sandbox.call(["run", "--log-size", "1k", "x"])).toMatchObject({ status: 125 });
  });

  test("has the last words of a guest that was cut off, or whose kernel panicked", async () => {
    await start("cut", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done");
    const follower = sandbox.start(["logs", "-f", "cut"]);
    await until(() => follower.stdout().includes("line 5\n"));
    process.kill(pidOf("cut"), "SIGKILL");
    const seen = (await follower.finished).stdout;
    expect(await sandbox.ok(["logs", "cut"])).toBe(seen);
    expect(seen).toMatch(/line 5\n/);
    await sandbox.ok(["rm", "-f", "cut"]);

    // Out of memory is a panic here, and the workload takes all there is.
    await start(
      "panic",
      "echo before; sleep 1; tail /dev/zero",
      "--kernel-args",
      "sysctl.vm.panic_on_oom=2",
      "-m",
      "128m",
    );
    await sandbox.call(["wait", "panic"]);
    expect(await sandbox.ok(["logs", "panic"])).toBe("before\n");
    await sandbox.ok(["rm", "-f", "panic"]);
  });

  test("a follower that reads nothing holds nobody up", async () => {
    await start(
      "slow",
      "i=0; while [ $i -lt 40000 ]; do echo $i 01234567890123456789; i=$((i+1)); done",
      "--log-size",
      "1m",
    );
    const follower = sandbox.start(["logs", "-f", "slow"]);
    process.kill(follower.pid, "SIGSTOP");
    await sandbox.ok(["wait", "slow"]);
    process.kill(follower.pid, "SIGCONT");
    expect((await follower.finished).stdout).toMatch(/39999 01234567890123456789\n$/);
    await sandbox.ok(["rm", "slow"]);
  });
});
