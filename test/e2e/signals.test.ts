import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

const IMAGE = `oci:${IMAGES}/layers`;
/** Guests boot in seconds, and more slowly on a busy machine. */
const SOON = { timeout: 120_000, interval: 50 };

const FOR_EVER = "echo ready; while :; do sleep 1000 & wait; done";

onEveryBackend("signals and sudden deaths", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const argumentsFor = (flags: readonly string[], script: string): readonly string[] => [
    ...["run", "--vmm", vmm, ...flags, IMAGE, "/bin/sh", "-c", script],
  ];
  const onlyRecord = (): Record<string, unknown> => {
    const records = sandbox.records();
    expect(records).toHaveLength(1);
    return records[0] ?? {};
  };
  const pidOf = (record: Record<string, unknown>): number => {
    expect(record["firecrackerPid"]).toBeTypeOf("number");
    return Number(record["firecrackerPid"]);
  };
  /** The shell that waits for the VMM, as its pid file says. */
  const supervisorOf = (record: Record<string, unknown>): number =>
    Number.parseInt(
      readFileSync(path.join(sandbox.runtime, String(record["id"]), "supervisor.pid"), "utf8"),
      10,
    );

  test.each([
    ["SIGINT", "INT"],
    ["SIGTERM", "TERM"],
    ["SIGHUP", "HUP"],
  ] as const)("%s in the foreground reaches the workload, whose status is ours", async (signal, name) => {
    const running = sandbox.start(argumentsFor(["--rm"], `trap 'echo heard; exit 7' ${name}; ${FOR_EVER}`));
    await expect.poll(running.stdout, SOON).toBe("ready\n");
    running.kill(signal);
    expect(await running.finished).toEqual({ stdout: "ready\nheard\n", stderr: "", status: 7 });
    await sandbox.expectNothingLeft();
  });

  test("a second SIGINT ends the wait for a workload that ignores the first, and leaves nothing", async () => {
    const running = sandbox.start(argumentsFor([], `trap 'echo ignored' INT; ${FOR_EVER}`));
    await expect.poll(running.stdout, SOON).toBe("ready\n");
    running.kill("SIGINT");
    await expect.poll(running.stdout, SOON).toBe("ready\nignored\n");
    running.kill("SIGINT");
    expect(await running.finished).toMatchObject({ stdout: "ready\nignored\n", status: 130 });
    await sandbox.expectNothingLeft();
  });

  test("the VMM of a foreground run is killed: 137, with the reason, and on record as dead", async () => {
    const running = sandbox.start(argumentsFor(["--name", "victim"], FOR_EVER));
    await expect.poll(running.stdout, SOON).toBe("ready\n");
    process.kill(pidOf(onlyRecord()), "SIGKILL");
    const finished = await running.finished;
    expect(finished).toMatchObject({ stdout: "ready\n", status: 137 });
    expect(finished.stderr).toContain("the VMM ended before the guest said how its workload did");
    expect(onlyRecord()).toMatchObject({ state: "dead", exitCode: 137, firecrackerPid: null });
    expect(await sandbox.ok(["rm", "victim"])).toBe("victim\n");
    await sandbox.expectNothingLeft();
  });

  test("the VMM of a detached VM is killed: its record says so without any command", async () => {
    await sandbox.ok(argumentsFor(["-d", "--name", "victim"], FOR_EVER));
    await expect.poll(() => sandbox.ok(["logs", "victim"]), SOON).toBe("ready\n");
    const following = sandbox.start(["logs", "-f", "victim"]);
    const waiting = sandbox.start(["wait", "victim"]);
    await expect.poll(following.stdout, SOON).toBe("ready\n");
    process.kill(pidOf(onlyRecord()), "SIGKILL");
    await expect.poll(onlyRecord, SOON).toMatchObject({
      state: "dead",
      exitCode: 137,
      firecrackerPid: null,
      vmSocketPath: expect.any(String),
    });
    expect(await following.finished).toMatchObject({ stdout: "ready\n", status: 0 });
    expect(await waiting.finished).toMatchObject({ stdout: "137\n", status: 0 });
    expect(await sandbox.ok(["list", "-q"])).toBe("");
    expect(await sandbox.ok(["list", "-a"])).toMatch(/ Dead .*ago /);
    expect(await sandbox.ok(["logs", "victim"])).toBe("ready\n");
    expect(await sandbox.ok(["list", "-q", "--filter", "status=dead"])).not.toBe("");
    // A dead VM can be started again: its disk is there.
    expect(await sandbox.ok(["start", "victim"])).toBe("victim\n");
    expect(onlyRecord()).toMatchObject({ state: "running", exitCode: null, error: null });
    // This time nobody waits for it.
    process.kill(pidOf(onlyRecord()), "SIGKILL");
    await expect.poll(onlyRecord, SOON).toMatchObject({ state: "dead", exitCode: 137 });
    await sandbox.ok(["rm", "victim"]);
    await sandbox.expectNothingLeft();
  });

  test("stop and kill end a VM whose guest answers no more: exited by SIGKILL, as a container", async () => {
    await sandbox.ok(argumentsFor(["-d", "--name", "frozen"], FOR_EVER));
    for (const end of [
      ["stop", "--keep", "-t", "1", "frozen"],
      ["kill", "frozen"],
    ]) {
      process.kill(pidOf(onlyRecord()), "SIGSTOP");
      expect(await sandbox.ok(end)).toBe("frozen\n");
      await expect
        .poll(onlyRecord, SOON)
        .toMatchObject({ state: "exited", exitCode: 137, exitSignal: 9, error: null, firecrackerPid: null });
      expect(await sandbox.ok(["start", "frozen"])).toBe("frozen\n");
    }
    await sandbox.ok(["rm", "-f", "frozen"]);
    await sandbox.expectNothingLeft();
  });

  test("VMM and supervisor are killed: the next list does not show it as running", async () => {
    const id = (await sandbox.ok(argumentsFor(["-d", "--name", "victim"], FOR_EVER))).trim();
    const record = onlyRecord();
    process.kill(supervisorOf(record), "SIGKILL");
    process.kill(pidOf(record), "SIGKILL");
    expect(await sandbox.ok(["list", "-q"])).toBe("");
    expect(await sandbox.ok(["inspect", "-f", "{{.state}} {{.exitCode}}", id])).toBe("dead 137\n");
    expect(existsSync(path.join(sandbox.runtime, id))).toBe(false);
    expect(await sandbox.ok(["rm", id])).toBe(`${id}\n`);
    await sandbox.expectNothingLeft();
  });

  test("a detached --rm VM vanishes by itself when its workload ends, and when its VMM is killed", async () => {
    await sandbox.ok(argumentsFor(["-d", "--rm"], "sleep 1; echo done"));
    await sandbox.expectNothingLeft();
    await sandbox.ok(argumentsFor(["-d", "--rm"], FOR_EVER));
    process.kill(pidOf(onlyRecord()), "SIGKILL");
    await sandbox.expectNothingLeft();
  });

  test("a detached VM outlives the supervisor's death, and is stopped as ever", async () => {
    await sandbox.ok(argumentsFor(["-d", "--name", "orphan"], FOR_EVER));
    process.kill(supervisorOf(onlyRecord()), "SIGKILL");
    expect(await sandbox.ok(["exec", "orphan", "/bin/echo", "here"])).toBe("here\n");
    expect(await sandbox.ok(["list"])).toContain("orphan");
    await sandbox.ok(["stop", "-t", "0", "orphan"]);
    await sandbox.expectNothingLeft();
  });

  test("run --rm stopped with --keep by another command is kept", async () => {
    const running = sandbox.start(
      argumentsFor(["--rm", "--name", "saved"], `trap 'exit 6' TERM; ${FOR_EVER}`),
    );
    await expect.poll(running.stdout, SOON).toBe("ready\n");
    expect(await sandbox.ok(["stop", "--keep", "saved"])).toBe("saved\n");
    expect(await running.finished).toMatchObject({ status: 6 });
    expect(onlyRecord()).toMatchObject({ name: "saved", state: "exited", exitCode: 6 });
    await sandbox.ok(["rm", "saved"]);
    await sandbox.expectNothingLeft();
  });
});
