import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { expectSystemd } from "./support/systemd.ts";

const IMAGE = `oci:${IMAGES}/layers`;
const SOON = { timeout: 120_000, interval: 50 };

onEveryBackend("init and stop signals", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const run = (flags: readonly string[], script: string) => [
    ...["run", "--vmm", vmm, ...flags, IMAGE, "/bin/sh", "-c", script],
  ];

  test("without --init the workload is PID 1, as images with an init of their own need", async () => {
    expect(
      await sandbox.call(run(["--rm"], 'echo $$; [ $$ = 1 ] || exit 100; exec /bin/sh -c "echo still $$"')),
    ).toEqual({
      stdout: "1\nstill 1\n",
      stderr: "",
      status: 0,
    });
  });

  test("--init is PID 1, reaps orphans, and ends as the workload does", async () => {
    const script = [
      "echo $$ $PPID $(cat /proc/1/comm)",
      "for i in 1 2 3 4 5; do (sleep 0.2 & ); done",
      "sleep 2",
      "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l",
      "exit 5",
    ].join("; ");
    expect(await sandbox.call(run(["--rm", "--init"], script))).toEqual({
      stdout: "2 1 init\n0\n",
      stderr: "",
      status: 5,
    });
    expect(await sandbox.call(run(["--rm", "--init"], "kill -KILL $$"))).toMatchObject({ status: 137 });
    const missing = await sandbox.call(["run", "--rm", "--vmm", vmm, "--init", IMAGE, "/nowhere"]);
    expect(missing).toMatchObject({ status: 127, stdout: "" });
  });

  test("--init passes signals on: what a shell as PID 1 would not hear ends it", async () => {
    await sandbox.ok(
      run(
        ["-d", "--init", "--name", "heard"],
        "trap 'echo usr1' USR1; echo ready; while :; do sleep 1000 & wait; done",
      ),
    );
    await expect.poll(() => sandbox.ok(["logs", "heard"]), SOON).toBe("ready\n");
    await sandbox.ok(["kill", "-s", "USR1", "heard"]);
    await expect.poll(() => sandbox.ok(["logs", "heard"]), SOON).toBe("ready\nusr1\n");
    await sandbox.ok(["kill", "--signal=15", "heard"]);
    expect(await sandbox.ok(["wait", "heard"])).toBe("143\n");
    await sandbox.ok(["rm", "heard"]);
  });

  test("stop sends the signal that --stop-signal names, real-time ones too, or its own -s", async () => {
    const script =
      "trap 'echo stopped; exit 3' 37; trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 1000 & wait; done";
    await sandbox.ok(run(["-d", "--stop-signal", "RTMIN+3", "--name", "rt"], script));
    await expect.poll(() => sandbox.ok(["logs", "rt"]), SOON).toBe("ready\n");
    await sandbox.ok(["stop", "--keep", "rt"]);
    expect(await sandbox.ok(["inspect", "-f", "{{.exitCode}}", "rt"])).toBe("3\n");
    expect(await sandbox.ok(["logs", "rt"])).toBe("ready\nstopped\n");
    await sandbox.ok(["start", "rt"]);
    await expect.poll(() => sandbox.ok(["logs", "rt"]), SOON).toBe("ready\nstopped\nready\n");
    await sandbox.ok(["stop", "-s", "INT", "--keep", "rt"]);
    expect(await sandbox.ok(["inspect", "-f", "{{.exitCode}}", "rt"])).toBe("4\n");
    await sandbox.ok(["rm", "rt"]);
  });

  test("systemd as the image's init comes up whole and stops when it is told to", async () => {
    const flags = ["-d", "--vmm", vmm, "-m", "512m", "--name", "system"];
    await sandbox.ok(["run", ...flags, `oci:${IMAGES}/tools`, "/sbin/init"]);
    await expectSystemd(sandbox, "system");
    const inside = (...command: string[]): Promise<string> => sandbox.ok(["exec", "system", ...command]);
    await inside("systemd-run", "--quiet", "--unit=job", "--property=Type=exec", "sleep", "1000");
    expect(await inside("systemctl", "is-active", "job")).toBe("active\n");
    // By SIGRTMIN+3, though neither image nor flag says so: SIGTERM only makes systemd start itself anew.
    await sandbox.ok(["stop", "--keep", "system"]);
    expect(sandbox.records()).toMatchObject([{ state: "exited", exitCode: 0 }]);
    await sandbox.ok(["rm", "system"]);
  });

  test("s6 as PID 1 keeps its services up", async () => {
    const script = [
      "mkdir -p /run/service/web",
      "printf '#!/bin/sh\\necho up\\nexec sleep 1000\\n' >/run/service/web/run",
      "chmod 755 /run/service/web/run",
      "exec s6-svscan /run/service",
    ].join(" && ");
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "s6", `oci:${IMAGES}/tools`, "/bin/sh", "-c", script],
    ]);
    await expect.poll(() => sandbox.ok(["logs", "s6"]), SOON).toBe("up\n");
    expect(await sandbox.ok(["exec", "s6", "cat", "/proc/1/comm"])).toBe("s6-svscan\n");
    await sandbox.ok(["exec", "s6", "s6-svc", "-r", "/run/service/web"]);
    await expect.poll(() => sandbox.ok(["logs", "s6"]), SOON).toBe("up\nup\n");
    await sandbox.ok(["stop", "--keep", "s6"]);
    expect(sandbox.records()).toMatchObject([{ state: "exited", exitCode: 0 }]);
    await sandbox.ok(["rm", "s6"]);
  });
});
