import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findSupervised, killSupervised } from "../host/supervise.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import type { MachineConfiguration, RunningVmm } from "../vmm/vmm.ts";
import { firecrackerVmm } from "./backend.ts";
import { type Behaviour, standIn } from "./stand-in.test-helper.ts";
import { sweepBootSnapshots } from "./take-boot-snapshot.ts";
import type { FirecrackerVersion } from "./version.ts";

let directory: string;
let snapshots: string;
beforeEach(() => {
  directory = temporaryDirectory();
  snapshots = path.join(directory, "boot-snapshots", "this-boot");
  for (const name of ["k", "i", "base.ext4", "upper", "control"])
    writeFileSync(path.join(directory, name), name);
});
afterEach(async () => {
  for (const vm of ["a", "b", "c"]) await killSupervised(path.join(directory, vm));
});

interface Start {
  readonly vm: string;
  readonly executable: string;
  readonly machine?: Partial<MachineConfiguration>;
  readonly version?: FirecrackerVersion;
  readonly signal?: AbortSignal;
  readonly isGuestAtWork?: () => Promise<boolean>;
}

/** Starts a VM whose files lie in `directory`; returns what Firecracker was asked for, and what there is then. */
async function start(
  options: Start,
): Promise<{ readonly calls: readonly string[]; readonly running: RunningVmm }> {
  const runtimeDirectory = path.join(directory, options.vm);
  mkdirSync(runtimeDirectory, { recursive: true });
  const file = (name: string): string => path.join(directory, name);
  const { executable } = options;
  writeFileSync(`${executable}.calls`, "");
  const running = await firecrackerVmm({ executable, version: options.version ?? [1, 17, 0] }).launch(
    {
      vcpuCount: 1,
      memoryMib: 128,
      bootSource: { kernelImagePath: file("k"), initrdPath: file("i"), kernelArguments: [] },
      drives: [
        { id: "rootfs", path: file("base.ext4"), device: "pmem", readOnly: true, cache: "unsafe" },
        { id: "upper", path: file("upper"), readOnly: false, cache: "writeback" },
        { id: "control", path: file("control"), readOnly: false, cache: "unsafe" },
      ],
      vsock: { guestCid: 3, socketPath: path.join(runtimeDirectory, "v.sock") },
      ...options.machine,
    },
    {
      runtimeDirectory,
      consolePath: path.join(runtimeDirectory, "console.log"),
      logPath: path.join(runtimeDirectory, "vmm.log"),
      afterExit: [],
      bootSnapshots: snapshots,
      isGuestAtWork: options.isGuestAtWork,
      signal: options.signal,
    },
  );
  return { calls: callsOf(executable), running };
}

function callsOf(executable: string): string[] {
  return readFileSync(`${executable}.calls`, "utf8").trim().split("\n");
}

function namesOf(calls: readonly string[]): string[] {
  return calls.map((call) => call.split(" ").slice(0, 2).join(" "));
}

/** The snapshots that could be gone on from. */
function kept(): string[] {
  const files = readdirSync(path.join(directory, "boot-snapshots"), { recursive: true, encoding: "utf8" });
  return files.filter((name) => path.basename(name) === "state").sort();
}

const RESTORE = ["PUT /serial", "PUT /snapshot/load"];

test("the first VM of a kind leaves a snapshot, and the second goes on from it", async () => {
  const executable = standIn();
  const first = await start({ vm: "a", executable });
  expect(namesOf(first.calls).slice(-4)).toEqual([
    "PUT /actions",
    "PATCH /vm",
    "PUT /snapshot/create",
    "PATCH /vm",
  ]);
  expect(first.calls.at(-3)).toContain('"Paused"');
  expect(first.calls.at(-1)).toContain('"Resumed"');
  expect(first.calls.find((call) => call.startsWith("PUT /boot-source"))).toContain("firectl.snapshot=1025");
  expect(first.running.bootSnapshot).toBeUndefined();
  expect(kept()).toHaveLength(1);
  expect(kept()[0]).toMatch(/^this-boot\/base\.ext4\/[0-9a-f]{32}\/state$/);
  // Nothing unfinished stays, nor the socket on which the guest was heard.
  expect(readdirSync(snapshots)).toEqual(["base.ext4"]);
  expect(existsSync(path.join(directory, "a", "v.sock_1025"))).toBe(false);

  const second = await start({ vm: "b", executable });
  expect(namesOf(second.calls)).toEqual(RESTORE);
  expect(second.calls[1]).toContain('"resume_vm":true');
  expect(second.running.bootSnapshot).toBeDefined();
});

test("the names that a snapshot holds lead to each VM's own files", async () => {
  const { calls } = await start({ vm: "a", executable: standIn() });
  expect(calls.find((call) => call.startsWith("PUT /drives/upper"))).toContain(
    '"path_on_host":"drive-upper"',
  );
  expect(calls.find((call) => call.startsWith("PUT /pmem/rootfs"))).toContain(
    '"path_on_host":"drive-rootfs"',
  );
  expect(calls.find((call) => call.startsWith("PUT /vsock"))).toContain('"uds_path":"v.sock"');
  expect(readlinkSync(path.join(directory, "a", "drive-upper"))).toBe(path.join(directory, "upper"));
});

describe("a VM of another kind boots", () => {
  test.each<[string, () => Partial<Start>]>([
    ["other memory", () => ({ machine: { memoryMib: 256 } })],
    ["other processors", () => ({ machine: { vcpuCount: 2 } })],
    ["another Firecracker", () => ({ executable: standIn() })],
    [
      "a disk of another size",
      () => {
        writeFileSync(path.join(directory, "upper"), "a longer one");
        return {};
      },
    ],
    [
      "a changed kernel",
      () => {
        writeFileSync(path.join(directory, "k"), "K");
        utimesSync(path.join(directory, "k"), 1, 1);
        return {};
      },
    ],
    [
      "another image, which is memory of the guest's",
      () => {
        writeFileSync(path.join(directory, "base.ext4"), "BASE.EXT4");
        utimesSync(path.join(directory, "base.ext4"), 1, 1);
        return {};
      },
    ],
  ])("%s", async (_name, change) => {
    const executable = standIn();
    await start({ vm: "a", executable });
    const { calls } = await start({ vm: "b", executable, ...change() });
    expect(namesOf(calls)).toContain("PUT /actions");
    expect(kept()).toHaveLength(2);
  });

  test("but not for the contents of its disks", async () => {
    const executable = standIn();
    await start({ vm: "a", executable });
    writeFileSync(path.join(directory, "upper"), "UPPER");
    expect(namesOf((await start({ vm: "b", executable })).calls)).toEqual(RESTORE);
  });
});

test.each<[string, Partial<Start>]>([
  ["never means never", { machine: { bootSnapshot: "never" } }],
  ["an older Firecracker has none", { version: [1, 16, 0] }],
])("%s", async (_name, more) => {
  const { calls } = await start({ vm: "a", executable: standIn(), ...more });
  expect(namesOf(calls).at(-1)).toBe("PUT /actions");
  expect(calls.join()).not.toContain("firectl.snapshot");
  expect(existsSync(snapshots)).toBe(false);
});

test("what Firecracker refuses to go on from is not tried again: the VM boots", async () => {
  await start({ vm: "a", executable: standIn() });
  const behaviour: Behaviour = { refuse: "PUT /snapshot/load" };
  const executable = standIn(behaviour);
  await start({ vm: "b", executable });
  await killSupervised(path.join(directory, "b"));
  expect(kept()).toHaveLength(2);
  const again = await start({ vm: "b", executable });
  expect(namesOf(again.calls).slice(0, 3)).toEqual([...RESTORE, "PUT /machine-config"]);
  expect(namesOf(again.calls).at(-1)).toBe("PUT /actions");
  expect(again.running.bootSnapshot).toBeUndefined();
  expect(kept()).toHaveLength(1);
  const third = await start({ vm: "c", executable });
  expect(namesOf(third.calls)[0]).toBe("PUT /machine-config");
});

test("a guest that cannot be kept goes on", async () => {
  const { calls } = await start({ vm: "a", executable: standIn({ refuse: "PUT /snapshot/create" }) });
  expect(calls.at(-1)).toContain('"Resumed"');
  expect(readdirSync(snapshots)).toEqual([]);
});

test("a guest that cannot be made to go on fails the start, and leaves nothing", async () => {
  const executable = standIn({ refuse: "PATCH /vm" });
  await expect(start({ vm: "a", executable })).rejects.toMatchObject({ code: "VMM_REFUSED" });
  expect(readdirSync(path.join(directory, "a"))).toEqual([]);
  expect(findSupervised(path.join(directory, "a"))).toEqual([]);
});

test("waiting for a guest that never is ready can be interrupted", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  setTimeout(() => controller.abort(reason), 400);
  const starting = start({ vm: "a", executable: standIn({ neverReady: true }), signal: controller.signal });
  await expect(starting).rejects.toBe(reason);
  expect(readdirSync(path.join(directory, "a"))).toEqual([]);
});

test("a guest that has gone on without a word is not waited for", async () => {
  let looks = 0;
  const { calls } = await start({
    vm: "a",
    executable: standIn({ neverReady: true }),
    isGuestAtWork: async () => {
      looks += 1;
      return looks > 2;
    },
  });
  expect(namesOf(calls).at(-1)).toBe("PUT /actions");
  expect(existsSync(snapshots)).toBe(false);
});

test("a guest whose VMM ends before it is ready is not waited for", async () => {
  const executable = standIn({ neverReady: true, exitAfterMs: 100 });
  const { calls } = await start({ vm: "a", executable });
  expect(namesOf(calls).at(-1)).toBe("PUT /actions");
});

test("snapshots of an earlier boot of the host go when one is made", async () => {
  const old = path.join(directory, "boot-snapshots", "earlier-boot", "base.ext4", "0");
  mkdirSync(old, { recursive: true });
  writeFileSync(path.join(old, "state"), "");
  await start({ vm: "a", executable: standIn() });
  expect(readdirSync(path.dirname(snapshots))).toEqual(["this-boot"]);
});

test("what a killed firectl has begun goes", () => {
  const names = [".begun-long-ago.tmp", ".just-begun.tmp"];
  for (const name of names) mkdirSync(path.join(snapshots, name), { recursive: true });
  utimesSync(path.join(snapshots, ".begun-long-ago.tmp"), 1, 1);
  sweepBootSnapshots(snapshots, { keepBytes: 0 });
  expect(readdirSync(snapshots)).toEqual([".just-begun.tmp"]);
});

test("those used longest ago go when there are too many", () => {
  for (const [seconds, name] of ["oldest", "older", "newest"].entries()) {
    const one = path.join(snapshots, "base.ext4", name);
    mkdirSync(one, { recursive: true });
    for (const file of ["state", "memory"]) writeFileSync(path.join(one, file), Buffer.alloc(64 * 1024, 1));
    utimesSync(path.join(one, "state"), seconds, seconds);
  }
  sweepBootSnapshots(snapshots, { keepBytes: 300 * 1024 });
  expect(readdirSync(path.join(snapshots, "base.ext4")).sort()).toEqual(["newest", "older"]);
});
