import { expect, test } from "vitest";
import type { RawConfiguration } from "../vmm/raw-configuration.ts";
import { translateRaw } from "./translate-raw.ts";

const RAW: RawConfiguration = {
  "boot-source": { kernel_image_path: "/vmlinux", boot_args: "console=ttyS0 reboot=k panic=1" },
  "machine-config": { vcpu_count: 2, mem_size_mib: 256 },
  drives: [
    { drive_id: "data", is_root_device: false, path_on_host: "/data", cache_type: "Writeback" },
    { drive_id: "root", is_root_device: true, path_on_host: "/root", is_read_only: true },
  ],
  "network-interfaces": [],
  pmem: [],
  vsock: { guest_cid: 5, uds_path: "/v.sock" },
  entropy: {},
};

test("puts the root device first and names it to the kernel", () => {
  expect(translateRaw(RAW)).toEqual({
    vcpuCount: 2,
    memoryMib: 256,
    bootSource: {
      kernelImagePath: "/vmlinux",
      initrdPath: undefined,
      kernelArguments: ["root=/dev/vda", "ro", "console=ttyS0", "panic=1"],
    },
    drives: [
      { id: "root", path: "/root", readOnly: true, cache: "unsafe" },
      { id: "data", path: "/data", readOnly: false, cache: "writeback" },
    ],
    vsock: { guestCid: 5, socketPath: "/v.sock" },
  });
});

test.each<[string, Partial<RawConfiguration>]>([
  ["balloon", { balloon: {} }],
  ["cpu-config", { "cpu-config": {} }],
  ["logger", { logger: {} }],
  ["metrics", { metrics: {} }],
  ["mmds-config", { "mmds-config": {} }],
  ["memory-hotplug", { "memory-hotplug": {} }],
  ["serial", { serial: {} }],
  ["network-interfaces", { "network-interfaces": [{ iface_id: "eth0" }] }],
  ["pmem", { pmem: [{ id: "p", path_on_host: "/p" }] }],
  ["drives.0.socket", { drives: [{ drive_id: "d", is_root_device: false, socket: "/s" }] }],
])("%s is refused by name", (section, change) => {
  expect(() => translateRaw({ ...RAW, ...change })).toThrow(
    `the configuration's section "${section}" works in Firecracker only`,
  );
});
