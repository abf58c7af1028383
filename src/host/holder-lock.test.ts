import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { withHolderLock } from "./holder-lock.ts";
import { identifyProcess, ownIdentity } from "./process-identity.ts";

let directory: string;
let link: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "firectl-holder-"));
  link = path.join(directory, "holder");
});
afterEach(() => rm(directory, { recursive: true }));

const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
const hold = <T>(work: () => Promise<T>, timeoutMs = 10_000): Promise<T> =>
  withHolderLock(link, { guard: path.join(directory, "guard"), timeoutMs }, work);

test("runs one holder at a time", async () => {
  const events: string[] = [];
  const inAndOut = (name: string) =>
    hold(async () => {
      events.push(`${name} in`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      events.push(`${name} out`);
    });
  await Promise.all(["a", "b", "c"].map(inAndOut));
  expect(events).toHaveLength(6);
  for (let i = 0; i < 6; i += 2) expect(events[i + 1]).toBe(events[i]?.replace("in", "out"));
});

test("is named after its holder, and gone after the work, or its failure", async () => {
  await hold(async () => {
    const { pid, startTime } = ownIdentity();
    expect(readlinkSync(link)).toBe(`${pid}:${startTime}:${boot}`);
  });
  expect(existsSync(link)).toBe(false);
  await expect(
    hold(async () => {
      throw new Error("no");
    }),
  ).rejects.toThrow("no");
  expect(() => readlinkSync(link)).toThrow("ENOENT");
});

test("is not had while its holder lives, and is free once it was killed", async () => {
  const holder = spawn("sleep", ["60"]);
  await once(holder, "spawn");
  const { startTime } = identifyProcess(holder.pid ?? 0) ?? {};
  symlinkSync(`${holder.pid}:${startTime}:${boot}`, link);
  await expect(hold(async () => {}, 30)).rejects.toMatchObject({
    code: "LOCK_TIMEOUT",
    message: expect.stringContaining(`(process ${holder.pid})`),
  });
  holder.kill("SIGKILL");
  await once(holder, "close");
  // Several find it dead at once; each of them gets it, one after the other.
  let inside = 0;
  const got = await Promise.all(
    [1, 2, 3, 4].map((each) =>
      hold(async () => {
        expect(++inside).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 2));
        inside--;
        return each;
      }),
    ),
  );
  expect(got).toEqual([1, 2, 3, 4]);
});

test.each([
  ["of another process with our pid", `${process.pid}:1:${boot}`],
  ["of another boot", `${process.pid}:${ownIdentity().startTime}:00000000-0000-4000-8000-000000000000`],
  ["that is no name of a holder", "nonsense"],
])("is taken over from a holder %s", async (_what, name) => {
  symlinkSync(name, link);
  expect(await hold(async () => "got it")).toBe("got it");
});

test("says where it cannot be made", async () => {
  link = path.join(directory, "missing", "holder");
  await expect(hold(async () => {})).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
});
