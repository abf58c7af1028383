import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

onEveryBackend("run", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const run = (args: readonly string[]) => sandbox.call(["run", "--vmm", vmm, ...args]);

  test("a scratch image with one static binary prints its line and leaves nothing", async () => {
    expect(await run(["--rm", `oci:${IMAGES}/scratch`])).toEqual({
      stdout: "hello from scratch\n",
      stderr: "",
      status: 0,
    });
    await sandbox.expectNothingLeft();
  });

  test("user, groups, working directory, environment and entrypoint script are the image's", async () => {
    const finished = await run(["--rm", `oci:${IMAGES}/app`]);
    expect(finished).toEqual({
      stdout: "user=1234:2345 groups=2345 3456 cwd=/srv/app home=/home/web greeting=hello\ndefault command\n",
      stderr: "to stderr\n",
      status: 0,
    });
  });

  test("flags override what the image says", async () => {
    const finished = await run([
      ...["--rm", "-u", "7:8", "-w", "/made/for it", "-e", "GREETING=bye", "--hostname", "box"],
      ...["--entrypoint", "/bin/sh", `oci:${IMAGES}/app`],
      ...["-c", 'echo "$(id -u):$(id -g) $(pwd) $GREETING $(hostname) $0 $*"', "zero", "one", "two"],
    ]);
    expect(finished).toEqual({ stdout: "7:8 /made/for it bye box zero one two\n", stderr: "", status: 0 });
  });

  test("the exit status is the workload's, 128 + n for a signal", async () => {
    const layers = `oci:${IMAGES}/layers`;
    expect(await run(["--rm", layers])).toEqual({ stdout: "leaving\n", stderr: "", status: 42 });
    const running = sandbox.start([
      "run",
      "--rm",
      "--vmm",
      vmm,
      "--name",
      "victim",
      layers,
      "/bin/sleep",
      "999",
    ]);
    await expect.poll(() => sandbox.ok(["list"]), { timeout: 120_000, interval: 500 }).toContain("victim");
    await sandbox.ok(["kill", "-s", "KILL", "victim"]);
    expect((await running.finished).status).toBe(137);
  });

  test("what cannot be run ends with 127, 126 or 125 and says why", async () => {
    const app = `oci:${IMAGES}/app`;
    const missing = await run(["--rm", "--entrypoint", "nowhere", app]);
    expect(missing).toMatchObject({ status: 127, stdout: "" });
    expect(missing.stderr).toContain("nowhere");
    const refused = await run(["--rm", "--entrypoint", "/etc/passwd", app]);
    expect(refused).toMatchObject({ status: 126, stdout: "" });
    const nobody = await run(["--rm", "-u", "nobody-here", app]);
    expect(nobody).toMatchObject({ status: 125, stdout: "" });
    expect(nobody.stderr).toContain("nobody-here");
    await sandbox.expectNothingLeft();
  });

  test("the workload is PID 1, alone, and sees no host name but its own", async () => {
    const script =
      'cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l; cat /etc/hostname; grep -c "$(hostname)" /etc/hosts';
    const finished = await run([
      ...["--rm", "--hostname", "alone", "-u", "0", "--entrypoint", "/bin/sh", `oci:${IMAGES}/app`],
      ...["-c", script],
    ]);
    expect(finished.stderr).toBe("");
    const [comm, processes, hostname, lines] = finished.stdout.split("\n");
    expect({ comm, hostname, lines }).toEqual({ comm: "sh", hostname: "alone", lines: "1" });
    expect(Number(processes)).toBeLessThanOrEqual(4);
  });

  test("stdout and stderr stay apart and complete, byte for byte", async () => {
    const script =
      "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done; printf 'no newline\\0\\377'";
    const finished = await run([
      "--rm",
      "-u",
      "0",
      "--entrypoint",
      "/bin/sh",
      `oci:${IMAGES}/app`,
      "-c",
      script,
    ]);
    const numbers = Array.from({ length: 2000 }, (_, index) => index);
    expect(finished.stderr).toBe(numbers.map((n) => `err ${n}\n`).join(""));
    expect(finished.stdout).toBe(`${numbers.map((n) => `out ${n}\n`).join("")}no newline\0\uFFFD`);
  });

  test("a VM whose workload has ended stays on record with exit code and logs until rm", async () => {
    expect((await run(["--name", "kept", `oci:${IMAGES}/layers`])).status).toBe(42);
    const [listed] = JSON.parse(await sandbox.ok(["inspect", "kept"]));
    expect(listed).toMatchObject({ name: "kept", state: "exited", exitCode: 42, firecrackerPid: null });
    expect(await sandbox.ok(["list"])).not.toContain("kept");
    expect(await sandbox.ok(["list", "-a"])).toContain("kept");
    expect(await sandbox.ok(["logs", "kept"])).toBe("leaving\n");
    await sandbox.ok(["rm", "kept"]);
    await sandbox.expectNothingLeft();
  });

  test("--storage copy runs on a writable disk of the asked size", async () => {
    const finished = await run([
      ...["--rm", "--storage", "copy", "--disk-size", "300m", `oci:${IMAGES}/layers`, "/bin/sh", "-c"],
      "echo x >/written && cat /written && df -m / | tail -n 1 | awk '{ print ($2 > 200 && $2 <= 300) }'",
    ]);
    expect(finished).toEqual({ stdout: "x\n1\n", stderr: "", status: 0 });
  });
});
