import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { parseRawConfiguration } from "./raw-configuration.ts";

const directory = temporaryDirectory();
writeFileSync(path.join(directory, "vmlinux"), "");
writeFileSync(path.join(directory, "root.ext4"), "");

const SMALLEST = { "boot-source": { kernel_image_path: "vmlinux" } };

test("paths become absolute, what is missing gets Firecracker's defaults, the rest stays as it is", async () => {
  const parsed = await parseRawConfiguration(
    {
      ...SMALLEST,
      drives: [{ drive_id: "root", is_root_device: true, path_on_host: "root.ext4", io_engine: "Sync" }],
      vsock: { guest_cid: 3, uds_path: "./v.sock" },
      logger: { log_path: "/var/log/fc", level: "Info" },
    },
    { directory },
  );
  expect(parsed).toEqual({
    "boot-source": { kernel_image_path: `${directory}/vmlinux` },
    drives: [
      { drive_id: "root", is_root_device: true, path_on_host: `${directory}/root.ext4`, io_engine: "Sync" },
    ],
    "machine-config": { vcpu_count: 1, mem_size_mib: 128 },
    "network-interfaces": [],
    pmem: [],
    vsock: { guest_cid: 3, uds_path: `${directory}/v.sock` },
    logger: { log_path: "/var/log/fc", level: "Info" },
  });
});

test.each<[string, unknown, RegExp]>([
  ["no object", 7, /not a Firecracker configuration: Invalid input/],
  ["nothing", {}, /boot-source: Invalid input/],
  ["an unknown section", { ...SMALLEST, "boot-sauce": {}, extra: 1 }, /"boot-sauce", "extra"/],
  ["no kernel", { "boot-source": {} }, /boot-source\.kernel_image_path/],
  ["33 processors", { ...SMALLEST, "machine-config": { vcpu_count: 33, mem_size_mib: 128 } }, /vcpu_count/],
  [
    "a drive id that leaves its place in the API",
    { ...SMALLEST, drives: [{ drive_id: "../actions", is_root_device: false }] },
    /drives\.0\.drive_id/,
  ],
  ["a reserved CID", { ...SMALLEST, vsock: { guest_cid: 2, uds_path: "v" } }, /vsock\.guest_cid/],
])("%s is refused by name", async (_name, value, message) => {
  await expect(parseRawConfiguration(value, { directory })).rejects.toThrow(message);
});

test("a file that is missing is named", async () => {
  const drives = [{ drive_id: "root", is_root_device: true, path_on_host: "none.ext4" }];
  await expect(parseRawConfiguration({ ...SMALLEST, drives }, { directory })).rejects.toMatchObject({
    code: "FILE_NOT_FOUND",
    message: `the configuration names ${directory}/none.ext4, which does not exist`,
  });
});
