import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { tryFileLock, withFileLock } from "./file-lock.ts";

let lock: string;
beforeEach(async () => {
  lock = path.join(await mkdtemp(path.join(os.tmpdir(), "firectl-lock-")), "lock");
});
afterEach(() => rm(path.dirname(lock), { recursive: true }));

test("runs one holder at a time", async () => {
  const events: string[] = [];
  const hold = (name: string) =>
    withFileLock(lock, { timeoutMs: 10_000 }, async () => {
      events.push(`${name} in`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      events.push(`${name} out`);
    });
  await Promise.all([hold("a"), hold("b"), hold("c")]);
  expect(events).toHaveLength(6);
  for (let i = 0; i < 6; i += 2) expect(events[i + 1]).toBe(events[i]?.replace("in", "out"));
});

test("is free again after its holder was killed", async () => {
  const holder = spawn("flock", ["-x", "-F", lock, "sh", "-c", "echo held; exec sleep 60"]);
  await once(holder.stdout, "data");
  expect(await tryFileLock(lock, async () => "got it")).toBeUndefined();
  await expect(withFileLock(lock, { timeoutMs: 50 }, async () => {})).rejects.toMatchObject({
    code: "LOCK_TIMEOUT",
  });
  holder.kill("SIGKILL");
  await once(holder, "close");
  expect(await withFileLock(lock, { timeoutMs: 10_000 }, async () => "got it")).toBe("got it");
});

test("is free again after the work has failed", async () => {
  await expect(
    withFileLock(lock, { timeoutMs: 1000 }, async () => {
      throw new Error("no");
    }),
  ).rejects.toThrow("no");
  expect(await tryFileLock(lock, async () => "got it")).toBe("got it");
});
