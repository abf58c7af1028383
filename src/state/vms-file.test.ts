import { fork } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { VmRecord } from "./vm-record.ts";
import { VmsFile } from "./vms-file.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "firectl-state-"));
});
afterEach(() => rm(directory, { recursive: true }));

function record(name: string): VmRecord {
  return {
    id: "01234567-0123-4123-8123-0123456789ab",
    name,
    imageName: "docker.io/library/debian:12",
    imageDigest: null,
    state: "exited",
    vmm: "qemu",
    firecrackerPid: null,
    vmSocketPath: "/run/api.sock",
    rootfsPath: "/data/rootfs.ext4",
    kernelPath: "/data/vmlinuz",
    createdAt: "2026-01-01T00:00:00.000Z",
    startedAt: null,
    finishedAt: null,
    exitCode: 0,
    exitSignal: null,
    oomKilled: false,
    error: null,
    labels: {},
    cpus: 1,
    memoryMib: 512,
    diskBytes: 1024,
    stopTimeoutMs: 10_000,
    autoRemove: false,
    attached: false,
    restarted: false,
    owner: null,
    process: null,
    companions: [],
    hostBootId: "b",
    machine: null,
    workload: null,
    configPath: null,
    configSockets: [],
  };
}

describe("VmsFile", () => {
  test("is empty where there is no file, and creates none by reading", async () => {
    expect(await new VmsFile(directory).read()).toEqual([]);
    expect(await readdir(directory)).toEqual([]);
  });

  test("what it wrote itself is read as anybody reads it", async () => {
    const file = new VmsFile(directory);
    const records = [record("one"), { ...record("two"), labels: { ü: "\u0000" } }];
    await file.update(() => ({ records, result: undefined }));
    expect(await file.read()).toEqual(records);
    expect(await new VmsFile(directory).read()).toEqual(records);
  });

  test("what another has written since is checked", async () => {
    const file = new VmsFile(directory);
    await file.update(() => ({ records: [record("one")], result: undefined }));
    await new VmsFile(directory).update(() => ({ records: [record("two")], result: undefined }));
    expect((await file.read()).map(({ name }) => name)).toEqual(["two"]);
    await writeFile(file.path, '[{"id": 1}]');
    await expect(file.read()).rejects.toMatchObject({ code: "STATE_CORRUPT" });
  });

  test("keeps fields of a newer firectl", async () => {
    const file = new VmsFile(directory);
    await writeFile(file.path, JSON.stringify([{ ...record("a"), fromTheFuture: { x: 1 } }]));
    await file.update((records) => ({ records: [...records, record("b")], result: undefined }));
    expect(JSON.parse(await readFile(file.path, "utf8"))).toMatchObject([
      { fromTheFuture: { x: 1 } },
      { name: "b" },
    ]);
  });

  test("is a human-readable list that only its owner reads", async () => {
    const file = new VmsFile(directory);
    await file.update(() => ({ records: [record("a")], result: undefined }));
    expect(await readFile(file.path, "utf8")).toMatch(/^\[\n {2}\{\n {4}"id": "0123/);
    expect((await import("node:fs")).statSync(file.path).mode & 0o777).toBe(0o600);
  });

  test.each([
    ["not JSON", "{"],
    ["not a list", "{}"],
    ["a record without its state", JSON.stringify([{ ...record("a"), state: undefined }])],
    ["empty", ""],
  ])("sets a file aside that is %s, keeping its bytes", async (_what, text) => {
    const file = new VmsFile(directory);
    await writeFile(file.path, text);
    await expect(file.read()).rejects.toMatchObject({ code: "STATE_CORRUPT" });
    const aside = (await readdir(directory)).filter((name) => name.includes(".unreadable-"));
    expect(aside).toHaveLength(1);
    expect(await readFile(path.join(directory, aside[0] ?? ""), "utf8")).toBe(text);
    expect(await file.read()).toEqual([]);
  });

  test("loses no update of twelve processes at once", async () => {
    const worker = path.join(directory, "worker.mjs");
    // Separate processes must exclude each other too; these follow the protocol by hand: link, read, replace.
    await writeFile(
      worker,
      `import fs from "node:fs";
       const [lock, state, name] = process.argv.slice(2);
       const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
       const startTime = fs.readFileSync("/proc/self/stat", "latin1").split(") ")[1].split(" ")[19];
       for (;;) {
         try {
           fs.symlinkSync([process.pid, startTime, boot].join(":"), lock);
           break;
         } catch {
           await new Promise((resolve) => setTimeout(resolve, 1));
         }
       }
       const records = fs.existsSync(state) ? JSON.parse(fs.readFileSync(state)) : [];
       records.push({ ...${JSON.stringify(record("x"))}, name });
       fs.writeFileSync(state + name, JSON.stringify(records));
       fs.renameSync(state + name, state);
       fs.unlinkSync(lock);`,
    );
    const file = new VmsFile(directory);
    const others = Array.from({ length: 6 }, (_, index) => {
      const child = fork(worker, [path.join(directory, "vms.holder"), file.path, `other-${index}`]);
      return new Promise((resolve) => child.once("exit", resolve));
    });
    const ours = Array.from({ length: 6 }, (_, index) =>
      new VmsFile(directory).update((records) => ({
        records: [...records, record(`own-${index}`)],
        result: undefined,
      })),
    );
    await Promise.all([...others, ...ours]);
    expect(await file.read()).toHaveLength(12);
  });
});
