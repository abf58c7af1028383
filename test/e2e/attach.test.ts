import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";

const IMAGE = `oci:${IMAGES}/layers`;
const SOON = { timeout: 120_000, interval: 50 };
/** More than the drive's ring holds, twice. */
const MUCH = 40_000_000;

onEveryBackend("attach", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const run = (flags: readonly string[], ...command: readonly string[]) => [
    ...["run", "--vmm", vmm, ...flags, IMAGE, ...command],
  ];

  test("a detached input waits for whoever attaches, stays open after one, and output goes to all", async () => {
    await sandbox.ok(
      run(
        ["-d", "-i", "--name", "waits"],
        "/bin/sh",
        "-c",
        "until [ -e /go ]; do echo waiting; sleep 0.1; done; " +
          "while read line; do echo got $line; [ $line = end ] && exit 4; done",
      ),
    );
    const watcher = sandbox.start(["attach", "--no-stdin", "waits"]);
    const first = sandbox.start(["attach", "waits"], { stdin: "one\n" });
    // Both are attached once they show something.
    for (const { stdout } of [watcher, first]) await expect.poll(stdout, SOON).toContain("waiting\n");
    await sandbox.ok(["exec", "waits", "touch", "/go"]);
    for (const { stdout } of [watcher, first]) {
      await expect.poll(stdout, SOON).toMatch(/waiting\ngot one\n$/);
    }
    const second = sandbox.start(["attach", "waits"], { stdin: "end\n" });
    for (const attached of [watcher, first, second]) {
      expect(await attached.finished).toMatchObject({ stderr: "", status: 4 });
    }
    expect(watcher.stdout()).toMatch(/waiting\ngot one\ngot end\n$/);
    expect(await sandbox.ok(["logs", "waits"])).toMatch(/^(waiting\n)+got one\ngot end\n$/);
    await sandbox.ok(["rm", "waits"]);
  });

  test("signals go to the workload, or with --sig-proxy=false only end the wait", async () => {
    const script =
      "trap 'echo usr1' USR1; trap 'echo int; exit 8' INT; echo ready; while :; do sleep 1000 & wait; done";
    await sandbox.ok(run(["-d", "--name", "signalled"], "/bin/sh", "-c", script));
    await expect.poll(() => sandbox.ok(["logs", "signalled"]), SOON).toBe("ready\n");
    const aside = sandbox.start(["attach", "--sig-proxy=false", "signalled"]);
    const proxied = sandbox.start(["attach", "signalled"]);
    // Both are attached once they show the same new line.
    await expect
      .poll(async () => {
        await sandbox.ok(["kill", "-s", "USR1", "signalled"]);
        return [aside.stdout(), proxied.stdout()].every((text) => text.includes("usr1"));
      }, SOON)
      .toBe(true);
    aside.kill("SIGINT");
    expect((await aside.finished).status).toBe(130);
    expect(await sandbox.ok(["list", "-q"])).not.toBe("");
    proxied.kill("SIGINT");
    expect(await proxied.finished).toMatchObject({ stdout: expect.stringMatching(/int\n$/), status: 8 });
    await sandbox.ok(["rm", "signalled"]);
  });

  test("run --sig-proxy=false: a signal leaves the VM running, and its end needs no command", async () => {
    const running = sandbox.start(
      run(["--rm", "--sig-proxy=false", "--name", "left"], "/bin/sh", "-c", "echo up; sleep 3"),
    );
    await expect.poll(running.stdout, SOON).toBe("up\n");
    running.kill("SIGTERM");
    expect((await running.finished).status).toBe(143);
    await sandbox.expectNothingLeft();
  });

  test("start -a -i passes input on; what cannot be attached to says why", async () => {
    expect(await sandbox.call(run(["-i", "--name", "again"], "/bin/cat"), { stdin: "first" })).toMatchObject({
      stdout: "first",
      status: 0,
    });
    const stopped = await sandbox.call(["attach", "again"]);
    expect(stopped).toMatchObject({ status: 125, stdout: "" });
    expect(stopped.stderr).toContain("cannot attach to again: it is exited");
    expect(await sandbox.call(["start", "-ai", "again"], { stdin: "second" })).toMatchObject({
      stdout: "second",
      status: 0,
    });
    await sandbox.ok(["rm", "again"]);
  });

  test("run -a passes on only the streams named", async () => {
    const only = await sandbox.call(run(["--rm", "-a", "stderr"], "/bin/sh", "-c", "echo out; echo err >&2"));
    expect(only).toEqual({ stdout: "", stderr: "err\n", status: 0 });
    expect(await sandbox.call(run(["--rm", "-a", "stdout", "-d"], "/bin/true"))).toMatchObject({
      status: 125,
    });
  });

  test("a slow reader holds the workload up and gets every byte", async () => {
    const script = `yes 0123456789abcde | head -c ${MUCH}; echo done >&2`;
    const child = spawn(BIN, run(["--rm", "--name", "slow"], "/bin/sh", "-c", script), {
      env: sandbox.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    await once(child.stdout, "readable");
    // Nobody reads: the guest could have written all of it meanwhile.
    await sleep(8000);
    expect(errors).toBe("");
    let length = 0;
    let wrong = 0;
    for await (const chunk of child.stdout) {
      for (const byte of chunk as Buffer) {
        const expected = "0123456789abcde\n".charCodeAt(length++ % 16);
        if (byte !== expected) wrong++;
      }
    }
    expect([length, wrong, errors]).toEqual([MUCH, 0, "done\n"]);
    await sandbox.expectNothingLeft();
  });
});
