import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bundleProgram } from "../../core/bundle.test-helper.ts";
import { errnoOf } from "../../core/errors.ts";
import { MIB } from "../../core/units.ts";
import { streamProgram } from "../../host/process.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import { cleanDestination, inMountOrder } from "./mount-destination.ts";
import { tmpfsOptions } from "./tmpfs-options.ts";
import { isEmptyVolume, needsRecovery } from "./volume-disk.ts";
import { isVolumeName } from "./volume-names.ts";
import { type StoredVolume, VolumeStore } from "./volume-store.ts";
import { refuseConflicts } from "./volume-use.ts";

let directory: string;
let store: VolumeStore;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "firectl-volumes-"));
  store = new VolumeStore(directory);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function volume(name: string): StoredVolume {
  return { name, createdAt: "2026-01-01T00:00:00Z", labels: {}, sizeBytes: 16 * MIB, options: {} };
}

describe("VolumeStore", () => {
  test("makes a volume once, empty and clean", async () => {
    expect(await store.list()).toEqual([]);
    expect(await store.create(volume("data"))).toMatchObject({ isNew: true });
    expect(await store.create({ ...volume("data"), sizeBytes: 1 })).toMatchObject({
      isNew: false,
      volume: { sizeBytes: 16 * MIB },
    });
    expect(isEmptyVolume(store.diskPath("data"))).toBe(true);
    expect(needsRecovery(store.diskPath("data"))).toBe(false);
    expect(await store.remove("data")).toBe(true);
    expect(await store.remove("data")).toBe(false);
    await expect(store.get("data")).rejects.toMatchObject({ code: "VOLUME_NOT_FOUND" });
  });

  test("one of many that make the same at once succeeds", async () => {
    const made = await Promise.all(
      Array.from({ length: 6 }, () => new VolumeStore(directory).create(volume("same"))),
    );
    expect(made.filter(({ isNew }) => isNew)).toHaveLength(1);
    expect(await store.list()).toHaveLength(1);
  });

  test("sweeps what killed ones have left, and says what cannot be read", async () => {
    await store.create(volume("data"));
    await mkdir(path.join(store.root, ".01234567-0123-4123-8123-0123456789ab.tmp"));
    await store.sweep();
    expect((await readdir(store.root)).sort()).toEqual([".lock", "data"]);
    await writeFile(path.join(store.root, "data", "volume.json"), "{}");
    await expect(store.list()).rejects.toMatchObject({ code: "STATE_CORRUPT" });
  });

  test("processes killed at any moment leave whole volumes or none", async () => {
    const program = path.join(directory, "work.mjs");
    await bundleProgram(
      program,
      `
          import { VolumeStore } from "./volume-store.ts";
          const store = new VolumeStore(process.argv[2]);
          process.stdout.write("ready");
          for (;;) {
            for (const name of ["one", "two"]) {
              await store.create({ name, createdAt: "", labels: {}, sizeBytes: ${16 * MIB}, options: {} });
              await store.remove(name);
            }
          }`,
      import.meta.dirname,
    );
    for (let round = 0; round < 6; round++) {
      const stop = new AbortController();
      const workers = [0, 1].map(() =>
        streamProgram("timeout", ["-s", "KILL", "20", process.execPath, program, directory], {
          signal: stop.signal,
        }),
      );
      await Promise.all(workers.map(({ stdout }) => once(stdout, "data")));
      await sleep(round * 23);
      const pids = await workersOf(directory);
      expect(pids.length).toBeGreaterThan(0);
      for (const pid of pids) killIfThere(pid);
      await Promise.all(workers.map(({ finished }) => finished.catch(() => {})));
      await store.sweep();
      for (const { name } of await store.list()) expect(isEmptyVolume(store.diskPath(name))).toBe(true);
      const names = await readdir(store.root);
      expect(names.filter((name) => !["one", "two", ".lock"].includes(name))).toEqual([]);
    }
  }, 60_000);
});

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") throw error;
  }
}

/** The processes of Node that work below `home`. */
async function workersOf(home: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const command = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (command.startsWith(`${process.execPath}\0`) && command.includes(home)) found.push(Number(name));
  }
  return found;
}

test.each([
  ["ab", true],
  ["a", false],
  ["0_.-", true],
  ["-a", false],
  ["../x", false],
  ["a/b", false],
  [`a${"b".repeat(254)}`, true],
  [`a${"b".repeat(255)}`, false],
])("%j names a volume: %s", (name, expected) => {
  expect(isVolumeName(name)).toBe(expected);
});

test("mount points are cleaned, and sorted parents first", () => {
  expect(cleanDestination("/a//b/../c/")).toBe("/a/c");
  for (const [text, reason] of [
    ["data", "must be absolute"],
    ["/", "cannot be /"],
    ["/a/..", "cannot be /"],
    ["/proc", "inside /proc"],
    ["/x/../proc/sys", "inside /proc"],
    ["/a\0b", "NUL"],
    [`/${"a".repeat(4095)}`, "longer than 4095"],
  ] as const) {
    expect(() => cleanDestination(text)).toThrow(reason);
  }
  expect(() => cleanDestination("data")).toThrow(
    expect.objectContaining({ hint: "it is a path in the VM, for example -v data:/srv/data" }),
  );
  expect(cleanDestination("/process")).toBe("/process");
  const sorted = inMountOrder(["/a/b/c", "/z", "/a", "/a/b"].map((destination) => ({ destination })));
  expect(sorted.map(({ destination }) => destination)).toEqual(["/z", "/a", "/a/b", "/a/b/c"]);
});

test("options of a tmpfs follow docker's defaults", () => {
  expect(tmpfsOptions(["exec", "size=1m", "rprivate"])).toEqual([
    ...["noexec", "nosuid", "nodev", "exec", "size=1m"],
  ]);
  for (const bad of ["", "size", "size=", "lowerdir=/x", "exec=1", "size=1 m"]) {
    expect(() => tmpfsOptions([bad])).toThrow("is no option of a tmpfs");
  }
});

describe("two VMs and one volume", () => {
  const mount = (exclusive: boolean) => ({
    type: "volume" as const,
    name: "data",
    destination: "/data",
    readOnly: !exclusive,
    copy: true,
    exclusive,
    anonymous: false,
  });
  const record = (state: VmRecord["state"], exclusive: boolean) =>
    // Of a record nothing else matters here.
    ({ id: "other", name: "web", state, mounts: [mount(exclusive)] }) as unknown as VmRecord;

  test.each([
    ["creating", true, true, "which can write to it"],
    ["creating", true, false, "which can write to it"],
    ["creating", false, true, "and this VM would write to it"],
    ["removing", true, true, "which can write to it"],
    ["creating", false, false, undefined],
    ["exited", true, true, undefined],
    ["dead", true, true, undefined],
  ] as const)("%s, theirs writes %s, ours %s", (state, theirs, ours, reason) => {
    const judge = () => refuseConflicts([mount(ours)], { own: "own", records: [record(state, theirs)] });
    if (reason === undefined) expect(judge).not.toThrow();
    else expect(judge).toThrow(`the volume "data" is in use by VM web, ${reason}`);
    expect(() =>
      refuseConflicts([mount(true)], { own: "other", records: [record(state, true)] }),
    ).not.toThrow();
  });
});
