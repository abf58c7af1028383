import { chmodSync, existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { findSupervised, superviseDetached } from "../host/supervise.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import {
  checkKvmDevice,
  describeFirecracker,
  type ProbeGuest,
  probeFirecracker,
  removeStaleProbe,
} from "./probe.ts";
import { type Behaviour, standIn } from "./stand-in.test-helper.ts";

let directory: string;
let guest: ProbeGuest;
beforeEach(() => {
  directory = temporaryDirectory();
  guest = { kernelImagePath: path.join(directory, "kernel"), initrdPath: "/i" };
  writeFileSync(guest.kernelImagePath, "");
});

function program(behaviour: Behaviour): { executable: string; version: readonly [number, number, number] } {
  return { executable: standIn(behaviour), version: [1, 17, 0] };
}

function startsOf(executable: string): number {
  return readFileSync(`${executable}.calls`, "utf8").split("InstanceStart").length - 1;
}

describe("probeFirecracker", () => {
  test("several at once ask once; the answer stays until a file changes", async () => {
    const firecracker = program({ exitAfterMs: 50 });
    const options = { directory, timeoutMs: 20_000 };
    const probe = (): ReturnType<typeof probeFirecracker> => probeFirecracker(firecracker, guest, options);
    expect(await Promise.all([probe(), probe(), probe()])).toEqual([undefined, undefined, undefined]);
    expect(await probe()).toBeUndefined();
    expect(startsOf(firecracker.executable)).toBe(1);
    utimesSync(guest.kernelImagePath, 1, 1);
    await probe();
    expect(startsOf(firecracker.executable)).toBe(2);
    expect(existsSync(path.join(directory, "probe"))).toBe(false);
  });

  test("an answer of another boot, or a damaged one, does not count", async () => {
    const firecracker = program({ exitAfterMs: 10 });
    const options = { directory, timeoutMs: 20_000 };
    await probeFirecracker(firecracker, guest, options);
    const file = path.join(directory, "vmm-answers.json");
    const answers = readFileSync(file, "utf8");
    for (const text of [answers.replace(/"bootId":"..../, '"bootId":"ffff'), "", "[]", "{"]) {
      writeFileSync(file, text);
      expect(await probeFirecracker(firecracker, guest, options)).toBeUndefined();
    }
    expect(startsOf(firecracker.executable)).toBe(5);
  });

  test.each<[string, Behaviour, string]>([
    ["a guest that never ends", {}, "a guest started on /dev/kvm did not run within 1.5 s"],
    [
      "a start that hangs",
      { hangAt: "PUT /actions" },
      "a guest started on /dev/kvm did not run within 1.5 s",
    ],
    [
      "a refusal",
      { refuse: "PUT /actions" },
      "Firecracker cannot run a guest on /dev/kvm: Firecracker refused PUT /actions: it cannot be done",
    ],
    [
      "a panic",
      { consoleText: "[1.0] Kernel panic - not syncing: no\n[1.1] more", exitAfterMs: 10 },
      "a guest started on /dev/kvm did not boot: Kernel panic - not syncing: no",
    ],
    [
      "a bad end",
      { exitAfterMs: 10, exitStatus: 148 },
      "Firecracker ended with status 148 when it ran a guest on /dev/kvm",
    ],
  ])("%s is a reason, and remembered", async (_name, behaviour, reason) => {
    const firecracker = program(behaviour);
    const options = { directory, timeoutMs: 1500 };
    expect(await probeFirecracker(firecracker, guest, options)).toMatchObject({
      code: "KVM_UNUSABLE",
      reason,
    });
    expect(await probeFirecracker(firecracker, guest, options)).toMatchObject({
      code: "KVM_UNUSABLE",
      reason,
    });
    expect(startsOf(firecracker.executable)).toBe(1);
    expect(findSupervised(path.join(directory, "probe"))).toEqual([]);
  });

  test("an interrupted probe is no answer", async () => {
    const firecracker = program({});
    const reason = new Error("enough");
    const controller = new AbortController();
    const { signal } = controller;
    setTimeout(() => controller.abort(reason), 500);
    const probe = probeFirecracker(firecracker, guest, { directory, timeoutMs: 20_000, signal });
    await expect(probe).rejects.toBe(reason);
    expect(existsSync(path.join(directory, "vmm-answers.json"))).toBe(false);
    expect(existsSync(path.join(directory, "probe"))).toBe(false);
  });
});

test("removeStaleProbe ends what a killed firectl has left", async () => {
  const stale = path.join(directory, "probe");
  mkdirSync(stale);
  await superviseDetached({
    runtimeDirectory: stale,
    argv: ["sleep", "60"],
    sideProcesses: [],
    logPath: path.join(stale, "log"),
    console: { path: path.join(stale, "console"), pipe: false, limitBytes: 0 },
    afterExit: [],
    sockets: [],
    ready: async () => {},
    timeoutMs: 5000,
  });
  await removeStaleProbe(directory);
  expect(findSupervised(stale)).toEqual([]);
  expect(existsSync(stale)).toBe(false);
  await removeStaleProbe(directory);
});

test("describeFirecracker asks a binary once", async () => {
  const executable = standIn();
  const options = { directory, timeoutMs: 1000 };
  expect(await describeFirecracker(executable, options)).toEqual({ executable, version: [1, 17, 0] });
  const { mtimeMs } = (await import("node:fs")).statSync(executable);
  writeFileSync(executable, readFileSync(executable, "utf8").replace("v1.17.0", "v1.18.0"));
  utimesSync(executable, mtimeMs / 1000, mtimeMs / 1000 + 5);
  expect((await describeFirecracker(executable, options)).version).toEqual([1, 18, 0]);
});

describe("checkKvmDevice", () => {
  test("a device that opens will do", async () => {
    expect(await checkKvmDevice("/dev/null")).toBeUndefined();
  });

  test("none is told", async () => {
    expect(await checkKvmDevice(path.join(directory, "kvm"))).toMatchObject({
      code: "KVM_UNUSABLE",
      reason: `this host has no ${directory}/kvm`,
    });
  });

  test("no right to it is told with the way to it", async ({ skip }) => {
    if (process.getuid?.() === 0) skip("root may open everything");
    const device = path.join(directory, "kvm");
    writeFileSync(device, "");
    chmodSync(device, 0);
    expect(await checkKvmDevice(device)).toMatchObject({
      code: "PERMISSION_DENIED",
      hint: expect.stringContaining("usermod -aG kvm"),
    });
  });
});
