import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

const IMAGE = `oci:${IMAGES}/app`;
/** Guests are slow where they are emulated. */
const SOON = { timeout: 120_000, interval: 300 };
const SLEEP = ["sleep", "100000"];
const QUICK = ["--health-interval", "200ms", "--health-timeout", "60s"];

onEveryBackend("a VM's health", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const run = (...args: readonly string[]) =>
    sandbox.call(["run", "-d", "--vmm", vmm, "-m", "200m", ...args]);
  const status = (name: string) =>
    sandbox.ok(["list", "--filter", `name=${name}`, "--format", "{{.Status}}"]);

  test("--wait returns once the check succeeds; list, inspect and filters show it", async () => {
    const check = 'echo "as $(id -u) in $(pwd)"; test -e /tmp/ready';
    const started = run(
      ...[
        "--name",
        "well",
        "--wait",
        ...QUICK,
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "200ms",
      ],
      ...["--health-cmd", check, IMAGE, ...SLEEP],
    );
    // The check fails until somebody says so.
    await expect.poll(() => status("well"), SOON).toMatch(/^Up .*\(health: starting\)\n$/);
    expect(await sandbox.ok(["list", "-q", "--filter", "health=healthy"])).toBe("");
    await sandbox.ok(["exec", "well", "touch", "/tmp/ready"]);
    expect(await started).toMatchObject({ status: 0 });

    expect(await status("well")).toMatch(/^Up .*\(healthy\)\n$/);
    expect(await sandbox.ok(["list", "-q", "--filter", "health=healthy"])).not.toBe("");
    const [{ health }] = JSON.parse(await sandbox.ok(["inspect", "well"]));
    expect(health).toMatchObject({ status: "healthy", failingStreak: 0 });
    expect(health.log.at(-1)).toMatchObject({ exitCode: 0, output: "as 1234 in /srv/app\n" });
    expect(Date.parse(health.log.at(-1).end)).toBeGreaterThanOrEqual(Date.parse(health.log.at(-1).start));

    // And what was well may fall ill, and recover.
    const ill = sandbox.call(["wait", "--condition", "unhealthy", "well"]);
    await sandbox.ok(["exec", "well", "rm", "/tmp/ready"]);
    expect(await ill).toMatchObject({ status: 0, stdout: "unhealthy\n" });
    const again = sandbox.call(["wait", "--condition", "healthy", "well"]);
    await sandbox.ok(["exec", "well", "touch", "/tmp/ready"]);
    expect(await again).toMatchObject({ status: 0, stdout: "healthy\n" });

    await sandbox.ok(["rm", "-f", "well"]);
  });

  test("--wait fails when the checks do, says what they said, and leaves the VM", async () => {
    const check = "echo the database is away; exit 3";
    const started = await run(
      ...["--name", "ill", "--wait", ...QUICK, "--health-retries", "2", "--health-cmd", check],
      ...[IMAGE, ...SLEEP],
    );
    expect(started.status).toBe(125);
    expect(started.stderr).toContain("ill is unhealthy: its check ended with 3: the database is away");
    expect(started.stderr).toContain("hint: firectl inspect -f '{{json .health}}' ill shows its last checks");
    expect(await status("ill")).toMatch(/\(unhealthy\)\n$/);
    await sandbox.ok(["rm", "-f", "ill"]);
  });

  test("a check that takes too long has failed, and is killed with what it started", async () => {
    const check = "sleep 54321 & sleep 54321";
    await run(
      ...[
        "--name",
        "slow",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
      ],
      ...["--health-cmd", check, IMAGE, ...SLEEP],
    );
    expect(await sandbox.ok(["wait", "--condition", "unhealthy", "slow"])).toBe("unhealthy\n");
    const [{ health }] = JSON.parse(await sandbox.ok(["inspect", "slow"]));
    expect(health.log[0]).toMatchObject({ exitCode: -1, output: "Health check exceeded timeout (0.3s)" });
    const left = await sandbox.ok([
      "exec",
      "-u",
      "0",
      "slow",
      "sh",
      "-c",
      "ps -o args | grep -c '[5]4321' || true",
    ]);
    // The one that runs at this moment, at most.
    expect(Number(left)).toBeLessThanOrEqual(3);
    await sandbox.ok(["rm", "-f", "slow"]);
  });

  test("a check has the workload's limits, and fails where those leave it nothing", async () => {
    const check = "for i in $(seq 40); do sleep 54321 & done";
    await run(
      ...["--name", "greedy", ...QUICK, "--pids-limit", "20", "--health-retries", "3"],
      ...["--health-cmd", check, IMAGE, ...SLEEP],
    );
    expect(await sandbox.ok(["wait", "--condition", "unhealthy", "greedy"])).toBe("unhealthy\n");
    const [{ health }] = JSON.parse(await sandbox.ok(["inspect", "greedy"]));
    expect(health.log.at(-1)).toMatchObject({ output: expect.stringContaining("fork") });
    const pids = async () =>
      Number(await sandbox.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "greedy"]));
    await expect.poll(pids, SOON).toBeGreaterThan(15);
    // A check that has just begun is one more.
    expect(await pids()).not.toBeGreaterThan(21);
    expect(await sandbox.ok(["top", "greedy"])).toContain("sleep 54321");
    expect(await sandbox.ok(["exec", "greedy", "echo", "served"])).toBe("served\n");
    await sandbox.ok(["rm", "-f", "greedy"]);
  });

  test("a VM that ends before it is healthy ends the wait", async () => {
    await run("--name", "brief", "--health-cmd", "true", IMAGE, "sh", "-c", "sleep 15; exit 4");
    const waiting = await sandbox.call(["wait", "--condition", "healthy", "brief"]);
    expect(waiting).toMatchObject({ status: 7, stdout: "" });
    expect(waiting.stderr).toContain("brief ended with 4 before it was healthy");
    await sandbox.ok(["rm", "brief"]);
  });

  test("a VM without a check is told apart", async () => {
    await run("--name", "plain", "--wait", IMAGE, ...SLEEP);
    expect(await status("plain")).not.toContain("health");
    const waiting = await sandbox.call(["wait", "--condition", "healthy", "plain"]);
    expect(waiting).toMatchObject({ status: 2 });
    expect(waiting.stderr).toContain("plain has no health check to wait for");
    await sandbox.ok(["rm", "-f", "plain"]);
  });
});
