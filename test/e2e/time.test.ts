import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

/** What a command in the guest may find the clock off by: the beginning of the call has put it right before. */
const TOLERANCE_MS = 100;
/** Without a call the clock of an emulated guest is as right as a real-time clock of whole seconds; never ahead. */
const BOOT_TOLERANCE_MS = 1500;

onEveryBackend("time", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  /** The guest's clock, and between which moments of the host it was read; milliseconds. */
  const clockOf = async (name: string) => {
    const before = Date.now();
    const text = await sandbox.ok(["exec", name, "/bin/busybox", "adjtimex"]);
    const after = Date.now();
    const [seconds, fraction] = ["tv_sec", "tv_usec"].map((field) =>
      Number(new RegExp(`\\.${field}:\\s+(\\d+)`).exec(text)?.[1]),
    );
    // The fraction is in nanoseconds once the clock is kept with them.
    const unit = /status:.*NANO/.test(text) ? 1e6 : 1e3;
    return { before, after, guest: (seconds ?? Number.NaN) * 1000 + (fraction ?? Number.NaN) / unit };
  };

  test("the guest's clock is the host's, at boot, after the VMM was stopped, and when it was set wrong", async () => {
    const started = Date.now();
    await sandbox.ok([
      ...["run", "-d", "--name", "clock", "--vmm", vmm, `oci:${IMAGES}/layers`],
      ...["/bin/sh", "-c", "date +%s > /boot-time; while :; do sleep 1000; done"],
    ]);
    const ended = Date.now();
    const boot = Number(await sandbox.ok(["exec", "clock", "/bin/cat", "/boot-time"])) * 1000;
    expect(boot).toBeGreaterThan(started - BOOT_TOLERANCE_MS);
    expect(boot).toBeLessThan(ended + TOLERANCE_MS);
    const expectRight = async () => {
      const { before, after, guest } = await clockOf("clock");
      expect(guest).toBeGreaterThan(before - TOLERANCE_MS);
      expect(guest).toBeLessThan(after + TOLERANCE_MS);
    };
    await expectRight();
    const pid = Number(sandbox.records().find((record) => record["name"] === "clock")?.["firecrackerPid"]);
    process.kill(pid, "SIGSTOP");
    await sleep(4000);
    process.kill(pid, "SIGCONT");
    await expectRight();
    await sandbox.ok(["rm", "-f", "clock"]);
  });
});
