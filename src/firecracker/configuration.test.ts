import { expect, test } from "vitest";
import type { MachineConfiguration } from "../vmm/vmm.ts";
import { configurationCalls } from "./configuration.ts";
import { canBoundConsole, loadsCompressedKernel, parseFirecrackerVersion, pmemLackOf } from "./version.ts";

const MACHINE: MachineConfiguration = {
  vcpuCount: 1,
  memoryMib: 128,
  bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
  drives: [],
  vsock: { guestCid: 3, socketPath: "/v" },
};

const HOST = { architecture: "x64", version: [1, 14, 0] } as const;

function bootArguments(kernelArguments: readonly string[]): string {
  const bootSource = { ...MACHINE.bootSource, kernelArguments };
  for (const call of configurationCalls({ ...MACHINE, bootSource }, HOST)) {
    if (call.path === "/boot-source") return call.body.boot_args ?? "";
  }
  throw new Error("no boot source");
}

test("the user's kernel arguments come last and win", () => {
  expect(bootArguments(["loglevel=7", "panic=5"])).toMatch(/ panic=-1 .* loglevel=7 panic=5$/);
});

test("the command line takes 2047 bytes and not one more", () => {
  const spare = 2047 - Buffer.byteLength(bootArguments([])) - 1;
  expect(Buffer.byteLength(bootArguments(["x".repeat(spare)]))).toBe(2047);
  expect(() => bootArguments(["x".repeat(spare + 1)])).toThrow("2048 bytes long; a kernel takes 2047");
});

test.each([
  ["Firecracker v1.17.0\n", [1, 17, 0], true, true],
  ["Firecracker v1.17.0-dev\n\n2026-11-24 exiting", [1, 17, 0], true, true],
  ["Firecracker v1.16.9\n", [1, 16, 9], true, false],
  ["Firecracker v1.15.0\n", [1, 15, 0], false, false],
  ["Firecracker v2.0.1\n", [2, 0, 1], true, true],
] as const)("%j", (output, version, bounds, loads) => {
  const parsed = parseFirecrackerVersion(output);
  expect(parsed).toEqual(version);
  expect(canBoundConsole(version)).toBe(bounds);
  expect(loadsCompressedKernel(version)).toBe(loads);
});

test("an image is a disk or memory, and none is Firecracker's root device", () => {
  const drive = { id: "rootfs", path: "/base.ext4", readOnly: true, cache: "unsafe" } as const;
  const upper = { id: "upper", path: "/upper.ext4", readOnly: false, cache: "writeback" } as const;
  const callsFor = (device?: "block" | "pmem") =>
    configurationCalls({ ...MACHINE, drives: [{ ...drive, ...(device && { device }) }, upper] }, HOST).filter(
      (call) => /^\/(?:drives|pmem)\//.test(call.path),
    );
  const disk = {
    path: "/drives/rootfs",
    body: {
      ...{ drive_id: "rootfs", path_on_host: "/base.ext4", is_root_device: false, is_read_only: true },
      cache_type: "Unsafe",
    },
  };
  const memory = {
    path: "/pmem/rootfs",
    body: { id: "rootfs", path_on_host: "/base.ext4", root_device: false, read_only: true },
  };
  const writable = {
    path: "/drives/upper",
    body: {
      ...{ drive_id: "upper", path_on_host: "/upper.ext4", is_root_device: false, is_read_only: false },
      cache_type: "Writeback",
    },
  };
  expect(callsFor()).toEqual([disk, writable]);
  expect(callsFor("block")).toEqual([disk, writable]);
  expect(callsFor("pmem")).toEqual([memory, writable]);
});

test("a balloon that is empty gives back what the guest frees, since 1.14", () => {
  const balloonFor = (version: readonly [number, number, number]) =>
    configurationCalls(MACHINE, { ...HOST, version }).find((call) => call.path === "/balloon")?.body;
  const empty = { amount_mib: 0, deflate_on_oom: true };
  expect(balloonFor([1, 14, 0])).toEqual({ ...empty, free_page_reporting: true });
  expect(balloonFor([1, 13, 9])).toEqual(empty);
});

test("a limited drive has token buckets of a second, and no limit is a bucket of no size", () => {
  const drive = { id: "upper", path: "/u", readOnly: false, cache: "writeback" } as const;
  const machine = { ...MACHINE, drives: [{ ...drive, limit: { bytesPerSecond: 5000 } }] };
  const call = configurationCalls(machine, HOST).find(({ path }) => path === "/drives/upper");
  expect(call?.body).toMatchObject({
    rate_limiter: { bandwidth: { size: 5000, refill_time: 1000 }, ops: { size: 0, refill_time: 1000 } },
  });
});

test("virtio-pmem came with 1.14", () => {
  expect(pmemLackOf([1, 13, 9])).toBe("Firecracker 1.13.9 has no virtio-pmem, 1.14 has");
  expect(pmemLackOf([1, 14, 0])).toBeUndefined();
});

test.each(["", "QEMU emulator version 7.2.22", "firecracker 1.17"])("%j is no Firecracker", (output) => {
  expect(parseFirecrackerVersion(output)).toBeUndefined();
});

test("an interface is a tap device of the VM's own, limited in both directions", () => {
  const network = { macAddress: "02:42:0a:00:02:0f" };
  const callFor = (limit?: { bytesPerSecond?: number; operationsPerSecond?: number }) =>
    configurationCalls({ ...MACHINE, network: { ...network, ...(limit && { limit }) } }, HOST).find(
      ({ path: endpoint }) => endpoint === "/network-interfaces/eth0",
    )?.body;
  const device = { iface_id: "eth0", guest_mac: network.macAddress, host_dev_name: "tap0" };
  expect(callFor()).toEqual(device);
  const limiter = {
    bandwidth: { size: 1_000_000, refill_time: 1000 },
    ops: { size: 0, refill_time: 1000 },
  };
  expect(callFor({ bytesPerSecond: 1_000_000 })).toEqual({
    ...device,
    rx_rate_limiter: limiter,
    tx_rate_limiter: limiter,
  });
});
