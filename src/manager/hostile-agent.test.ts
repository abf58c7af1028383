import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identifyProcess } from "../host/process-identity.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { beginVm, freshContext } from "./images.test-helper.ts";
import { killVm } from "./kill-vm.ts";
import { changeRecord } from "./records.ts";
import { stopVm } from "./stop-vm.ts";
import { vmPathsOf } from "./vm-paths.ts";

let context: Context;
let vm: VmRecord;
let vmm: ChildProcess;
let agent: Server;
let uncaught: unknown[];
const note = (error: unknown): void => void uncaught.push(error);

/** A VM whose VMM is a sleep, and whose agent answers every call with what is no HTTP/2. */
beforeEach(async () => {
  uncaught = [];
  process.on("uncaughtException", note);
  context = await freshContext();
  const { id } = await beginVm(context, "image", "evil");
  const { runtimeDirectory } = vmPathsOf(context.directories, id);
  mkdirSync(runtimeDirectory, { recursive: true });
  vmm = spawn("sleep", ["600"], { stdio: "ignore" });
  const identity = identifyProcess(vmm.pid ?? 0);
  if (identity === undefined) throw new Error("sleep runs");
  writeFileSync(path.join(runtimeDirectory, "vmm.pid"), readFileSync(`/proc/${identity.pid}/stat`));
  const socketPath = path.join(runtimeDirectory, "v.sock");
  agent = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("OK 1073741824\n");
      socket.once("data", () => socket.write("HTTP/1.1 400 No\r\n"));
    });
  });
  agent.listen(socketPath);
  await once(agent, "listening");
  const record = await changeRecord(context.vms, id, (begun) => ({
    ...begun,
    state: "running",
    owner: null,
    process: identity,
    firecrackerPid: identity.pid,
    machine: {
      vcpuCount: 1,
      memoryMib: 128,
      bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
      drives: [],
      vsock: { guestCid: 3, socketPath },
    },
    workload: {
      args: ["sh"],
      env: [],
      cwd: "/",
      user: "",
      hostname: "h",
      stopSignal: 15,
      readOnly: false,
      storage: "copy",
    },
  }));
  if (record === undefined) throw new Error("it was just made");
  vm = record;
});

afterEach(() => {
  process.off("uncaughtException", note);
  vmm.kill("SIGKILL");
  agent.close();
});

async function onRecord(): Promise<VmRecord | undefined> {
  // What the lost connection brings about has happened by then.
  for (let i = 0; i < 10; i++) await turn();
  return (await context.vms.read()).find(({ id }) => id === vm.id);
}

const KILLED = { state: "exited", exitSignal: 9, error: null, process: null, firecrackerPid: null };

test("SIGKILL ends a VM whose agent answers nonsense, and is on record as its end", async () => {
  await killVm(context, vm, "KILL");
  expect(await onRecord()).toMatchObject(KILLED);
  expect(vmm.signalCode).toBe("SIGKILL");
  expect(uncaught).toEqual([]);
});

test("another signal that it does not take is an error, and it runs on", async () => {
  await expect(killVm(context, vm, "TERM")).rejects.toMatchObject({ code: "AGENT_FAILED" });
  expect(await onRecord()).toEqual(vm);
  expect(vmm.signalCode).toBe(null);
  expect(uncaught).toEqual([]);
});

test("stop kills it, and with keep puts its end on record", async () => {
  await stopVm(context, vm, { keep: true });
  expect(await onRecord()).toMatchObject(KILLED);
  expect(vmm.signalCode).toBe("SIGKILL");
  expect(uncaught).toEqual([]);
});

test("stop removes it", async () => {
  await stopVm(context, vm, {});
  expect(await onRecord()).toBeUndefined();
  expect(uncaught).toEqual([]);
});
