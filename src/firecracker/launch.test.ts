import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { isAlive } from "../host/process-identity.ts";
import { findSupervised, killSupervised } from "../host/supervise.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { parseRawConfiguration } from "../vmm/raw-configuration.ts";
import type { LaunchOptions, MachineConfiguration } from "../vmm/vmm.ts";
import { firecrackerVmm } from "./backend.ts";
import { type Behaviour, standIn } from "./stand-in.test-helper.ts";

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(async () => killSupervised(directory));

function machine(): MachineConfiguration {
  return {
    vcpuCount: 2,
    memoryMib: 256,
    bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: ["firectl.control=vdc"] },
    drives: [
      { id: "rootfs", path: "/base", readOnly: true, cache: "unsafe" },
      { id: "upper", path: "/upper", readOnly: false, cache: "writeback" },
    ],
    vsock: { guestCid: 3, socketPath: path.join(directory, "vm.vsock") },
  };
}

function options(more: Partial<LaunchOptions> = {}): LaunchOptions {
  return {
    runtimeDirectory: directory,
    consolePath: path.join(directory, "console.log"),
    logPath: path.join(directory, "vmm.log"),
    afterExit: [],
    ...more,
  };
}

function callsOf(executable: string): Array<[string, unknown]> {
  return readFileSync(`${executable}.calls`, "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const [, name = "", body = ""] = /^(\S+ \S+) (.*)$/.exec(line) ?? [];
      return [name, body === "" ? undefined : JSON.parse(body)];
    });
}

const CURRENT = [1, 17, 0] as const;

test("configures the machine in order, starts it, and hands back a living process", async () => {
  const executable = standIn();
  const vmm = firecrackerVmm({ executable, version: CURRENT });
  const running = await vmm.launch(machine(), options());
  expect(isAlive(running.process)).toBe(true);
  expect(running.companions).toHaveLength(1);
  expect(running.apiSocketPath).toBe(path.join(directory, "api.sock"));
  const calls = callsOf(executable);
  expect(calls.map(([name]) => name)).toEqual([
    "PUT /machine-config",
    "PUT /boot-source",
    "PUT /drives/rootfs",
    "PUT /drives/upper",
    "PUT /vsock",
    "PUT /entropy",
    "PUT /balloon",
    "PUT /serial",
    "PUT /actions",
  ]);
  expect(new Map(calls).get("PUT /drives/upper")).toEqual({
    drive_id: "upper",
    path_on_host: "/upper",
    is_root_device: false,
    is_read_only: false,
    cache_type: "Writeback",
  });
  expect(new Map(calls).get("PUT /serial")).toEqual({
    serial_out_path: path.join(directory, "console.log"),
    rate_limiter: { size: 1_048_576, refill_time: 3_153_600_000_000 },
  });
});

test("the stacks of Firecracker's threads are no huge pages", async () => {
  const vmm = firecrackerVmm({ executable: standIn(), version: CURRENT });
  const { process: firecracker } = await vmm.launch(machine(), options());
  const environment = readFileSync(`/proc/${firecracker.pid}/environ`, "utf8").split("\0");
  const [stack] = environment.filter((variable) => variable.startsWith("RUST_MIN_STACK="));
  expect(Number(stack?.split("=")[1])).toBeLessThanOrEqual(2 ** 20);
});

test("an older Firecracker's console is bounded through its stdout", async () => {
  const executable = standIn({ consoleText: "Kernel panic" });
  await firecrackerVmm({ executable, version: [1, 15, 9] }).launch(machine(), options());
  expect(callsOf(executable).map(([name]) => name)).not.toContain("PUT /serial");
  await expect.poll(() => readFileSync(path.join(directory, "console.log"), "utf8")).toBe("Kernel panic");
});

test("stale sockets of an earlier start are out of the way", async () => {
  const stale = createServer().listen(path.join(directory, "vm.vsock"));
  await new Promise((resolve) => stale.once("listening", resolve));
  await firecrackerVmm({ executable: standIn(), version: CURRENT }).launch(machine(), options());
  expect(existsSync(path.join(directory, "vm.vsock"))).toBe(false);
  stale.close();
});

test.each<[string, Behaviour, object]>([
  [
    "a refused drive",
    { refuse: "PUT /drives/upper" },
    { code: "VMM_REFUSED", message: "Firecracker refused PUT /drives/upper: it cannot be done" },
  ],
  [
    "a refused start",
    { refuse: "PUT /actions" },
    { code: "VMM_REFUSED", message: "Firecracker refused PUT /actions: it cannot be done" },
  ],
  [
    "a death on the way",
    { dieAt: "PUT /vsock" },
    {
      code: "VMM_FAILED",
      message: expect.stringMatching(
        /^Firecracker did not answer .*PUT \/vsock.*: .*; its last words:\nthread 'main' panicked$/,
      ),
    },
  ],
])("%s leaves nothing and says why", async (_name, behaviour, error) => {
  const vmm = firecrackerVmm({ executable: standIn(behaviour), version: CURRENT });
  await expect(vmm.launch(machine(), options({ afterExit: ["touch", "/never"] }))).rejects.toMatchObject(
    error,
  );
  expect(findSupervised(directory)).toEqual([]);
  expect(readdirSync(directory)).toEqual([]);
});

test("a program that ends at once is told with its words", async () => {
  const vmm = firecrackerVmm({ executable: "/bin/false", version: CURRENT });
  await expect(vmm.launch(machine(), options())).rejects.toMatchObject({ code: "VMM_FAILED" });
  expect(readdirSync(directory)).toEqual([]);
});

test("aborting while Firecracker hangs leaves nothing", async () => {
  const vmm = firecrackerVmm({ executable: standIn({ hangAt: "PUT /actions" }), version: CURRENT });
  const reason = new Error("enough");
  const controller = new AbortController();
  const launch = vmm.launch(machine(), options({ signal: controller.signal }));
  setTimeout(() => controller.abort(reason), 300);
  await expect(launch).rejects.toBe(reason);
  expect(findSupervised(directory)).toEqual([]);
  expect(readdirSync(directory)).toEqual([]);
});

test("a raw configuration is put section by section, as it was written", async () => {
  const executable = standIn();
  const kernel = path.join(directory, "k");
  writeFileSync(kernel, "");
  const raw = await parseRawConfiguration(
    {
      "boot-source": { kernel_image_path: "k", boot_args: "console=ttyS0" },
      drives: [{ drive_id: "d", is_root_device: true, path_on_host: "k", io_engine: "Async" }],
      "machine-config": { vcpu_count: 2, mem_size_mib: 64, smt: true },
      "network-interfaces": [{ iface_id: "eth0", host_dev_name: "tap0" }],
      "mmds-config": { network_interfaces: ["eth0"] },
      logger: { level: "Debug" },
      balloon: null,
    },
    { directory },
  );
  await firecrackerVmm({ executable, version: CURRENT }).launchRaw(raw, options());
  expect(callsOf(executable)).toEqual([
    ["PUT /logger", { level: "Debug" }],
    ["PUT /machine-config", { vcpu_count: 2, mem_size_mib: 64, smt: true }],
    ["PUT /boot-source", { kernel_image_path: kernel, boot_args: "console=ttyS0" }],
    ["PUT /drives/d", { drive_id: "d", is_root_device: true, path_on_host: kernel, io_engine: "Async" }],
    ["PUT /network-interfaces/eth0", { iface_id: "eth0", host_dev_name: "tap0" }],
    ["PUT /mmds/config", { network_interfaces: ["eth0"] }],
    ["PUT /serial", expect.anything()],
    ["PUT /actions", { action_type: "InstanceStart" }],
  ]);
});
