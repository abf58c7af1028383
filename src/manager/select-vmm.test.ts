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
