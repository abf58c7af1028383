import { writeFileSync } from "node:fs";
import path from "node:path";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Phase, VmStatusSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { lastWords } from "./last-words.ts";

function pathsWith(files: { console?: string; log?: string }): Parameters<typeof lastWords>[0] {
  const directory = temporaryDirectory();
  const paths = {
    console: path.join(directory, "console.log"),
    vmmLog: path.join(directory, "vmm.log"),
    runtimeDirectory: directory,
  };
  if (files.console !== undefined) writeFileSync(paths.console, files.console);
  if (files.log !== undefined) writeFileSync(paths.vmmLog, files.log);
  return paths;
}

const booting = (error = "") => create(VmStatusSchema, { phase: Phase.BOOTING, error });

test.each([
  [
    "nothing at all",
    {},
    { status: undefined, vmm: "qemu" },
    "; the guest's agent had not started; its console is empty",
  ],
  [
    "a kernel that hangs",
    { console: "[0.1] Booting\n", log: "vsock: cannot listen\n" },
    { status: undefined, vmm: "qemu" },
    "; the guest's agent had not started; the guest's console ends with:\n[0.1] Booting" +
      "\nthe log of QEMU and of vhost-device-vsock ends with:\nvsock: cannot listen",
  ],
  [
    "an agent at work",
    { console: "", log: "[main] paused" },
    { status: booting(), vmm: "firecracker" },
    "; the guest's agent had started; its console is empty\nFirecracker's log ends with:\n[main] paused",
  ],
  [
    "an agent that says why, in bad faith",
    {},
    { status: booting(`\x1b[2J${"e".repeat(400)}`), vmm: "qemu" },
    `; the guest's agent had started, and said: \ufffd[2J${"e".repeat(196)}; its console is empty`,
  ],
] as const)("of %s", async (_, files, guest, expected) => {
  expect(await lastWords(pathsWith(files), guest)).toBe(expected);
});

test("of logs, only the end is quoted, without control characters", async () => {
  const paths = pathsWith({ console: `${"a".repeat(2000)}\x1b[31mred`, log: `${"b".repeat(2000)}\x07end` });
  const words = await lastWords(paths, { status: undefined, vmm: "qemu" });
  expect(words).toContain(`${"a".repeat(1016)}[31mred\n`);
  expect(words).toContain(`${"b".repeat(1020)}end`);
  expect(words.length).toBeLessThan(2300);
});
