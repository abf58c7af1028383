import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { selectVmm, type VmmSelection } from "./select-vmm.ts";

function selectionOf(changes: Partial<VmmSelection>): VmmSelection {
  const directory = temporaryDirectory();
  return {
    requested: "qemu",
    env: {},
    settings: {},
    directories: { data: directory, runtime: directory },
    guest: () => Promise.reject(new Error("nothing is to be tried")),
    ...changes,
  };
}

test.each([
  [
    "the variable",
    selectionOf({ env: { FIRECTL_QEMU: "/nosuch" } }),
    "FIRECTL_QEMU names /nosuch, which is not an executable file",
    /^give it the path of qemu-system-\w+, or leave it out: firectl then looks on PATH$/,
  ],
  [
    "the configuration",
    selectionOf({ requested: "firecracker", settings: { firecracker: "/etc/passwd" } }),
    "firecracker of config.json names /etc/passwd, which is not an executable file",
    /^give it the path of firecracker, /,
  ],
])("a program that %s names and that is none is refused", async (_, selection, message, hint) => {
  await expect(selectVmm(selection)).rejects.toMatchObject({
    code: "TOOL_MISSING",
    message,
    hint: expect.stringMatching(hint),
  });
});

test.each([
  [
    ["qemu-system-x86_64", "qemu-system-aarch64"],
    "vhost-device-vsock is not installed",
    "cargo install --locked vhost-device-vsock",
  ],
  [
    ["vhost-device-vsock"],
    /^qemu-system-\w+ is not installed$/,
    /^sudo apt-get install qemu-system-(x86|arm)$/,
  ],
  [
    [],
    /^qemu-system-\w+ and vhost-device-vsock are not installed$/,
    /^sudo apt-get install qemu-system-(x86|arm) && cargo install --locked vhost-device-vsock$/,
  ],
])("of QEMU's two programs with only %j the others' commands are the hint", async (there, message, hint) => {
  const directory = temporaryDirectory();
  for (const name of there) writeFileSync(path.join(directory, name), "", { mode: 0o755 });
  await expect(selectVmm(selectionOf({ env: { PATH: directory } }))).rejects.toMatchObject({
    code: "TOOL_MISSING",
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
});
