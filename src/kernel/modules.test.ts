import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { fakeModule, writeModuleTree } from "./kernel.test-helper.ts";
import { BOOT_MODULES, loadOrder, moduleInfo, readModules } from "./modules.ts";

describe("readModules", () => {
  test("orders by dependency, decompresses, and tells what is missing from what is built in", async () => {
    const directory = temporaryDirectory();
    writeModuleTree(directory, {
      files: {
        "kernel/net/virtio_net.ko": fakeModule({ depends: "net_failover,virtio" }),
        "kernel/net/net_failover.ko.gz": gzipSync(fakeModule({ depends: "failover" })),
        "kernel/net/failover.ko": fakeModule({ depends: "" }),
        "kernel/drivers/virtio.ko": fakeModule({ depends: "virtio-ring" }),
        "kernel/drivers/virtio-ring.ko": fakeModule({ depends: "" }),
        "kernel/fs/ext4.ko": fakeModule({ depends: "jbd2", softdep: "pre: crypto-crc32c post: later" }),
        "kernel/crypto/crc32c_generic.ko": fakeModule({ depends: "" }),
      },
      builtin: ["jbd2", "overlay"],
    });
    const { modules, missing } = await readModules(directory, ["virtio_net", "ext4", "overlay", "nothing"]);
    expect(modules.map(({ name }) => name)).toEqual([
      "failover",
      "net_failover",
      "virtio_ring",
      "virtio",
      "virtio_net",
      "crc32c_generic",
      "ext4",
    ]);
    expect(missing).toEqual(["nothing"]);
    expect(modules.at(-1)?.dependsOn).toEqual(["crc32c_generic"]);
    expect(loadOrder(modules, ["ext4"])).toEqual(["crc32c_generic", "ext4"]);
    expect(loadOrder(modules, ["overlay", "virtio_net"])).toEqual([
      "failover",
      "net_failover",
      "virtio_ring",
      "virtio",
      "virtio_net",
    ]);
  });

  test("ends on a circle", async () => {
    const directory = temporaryDirectory();
    writeModuleTree(directory, {
      files: { "a.ko": fakeModule({ depends: "b" }), "b.ko": fakeModule({ depends: "a" }) },
      builtin: [],
    });
    const { modules } = await readModules(directory, ["a"]);
    expect(modules.map(({ name }) => name)).toEqual(["b", "a"]);
    expect(loadOrder(modules, ["a"])).toEqual(["b", "a"]);
  });

  test("agrees with depmod on the kernel of this host", async ({ skip }) => {
    const tree = hostModules();
    if (tree === undefined) return skip("no /lib/modules/*/modules.dep on this host");
    const { modules } = await readModules(tree, BOOT_MODULES);
    const order = modules.map(({ name }) => name);
    const nameOf = (file: string): string =>
      path
        .basename(file)
        .replace(/\.ko.*$/, "")
        .replaceAll("-", "_");
    for (const line of readFileSync(path.join(tree, "modules.dep"), "utf8").split("\n")) {
      const [file = "", dependencies = ""] = line.split(":");
      const place = order.indexOf(nameOf(file));
      if (place < 0) continue;
      for (const dependency of dependencies.split(" ").filter(Boolean)) {
        expect(order.slice(0, place)).toContain(nameOf(dependency));
      }
    }
  });
});

test.each([
  ["empty", Buffer.alloc(0)],
  ["text", Buffer.from("depends=a\0".repeat(20))],
  ["an ELF file cut short", fakeModule({ depends: "a" }).subarray(0, 100)],
  ["sections beyond the end", withByte(fakeModule({ depends: "a" }), 0x3c, 255)],
  ["a name table that is not there", withByte(fakeModule({ depends: "a" }), 0x3e, 9)],
])("%s is no module", (_name, bytes) => {
  expect(() => moduleInfo(bytes, "x.ko")).toThrow("x.ko is not a kernel module");
});

function withByte(bytes: Buffer, offset: number, value: number): Buffer {
  bytes.writeUInt8(value, offset);
  return bytes;
}

function hostModules(): string | undefined {
  try {
    return readdirSync("/lib/modules")
      .map((release) => path.join("/lib/modules", release))
      .find((directory) => readdirSync(directory).includes("modules.dep"));
  } catch {
    return undefined;
  }
}
