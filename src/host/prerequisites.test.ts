import { expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { checkPrerequisites, type Host } from "./prerequisites.ts";

const GOOD: Host = { platform: "linux", architecture: "x64", nodeVersion: "20.11.0", hasProc: true };

test.each<[string, Partial<Host>]>([
  ["the oldest Node", {}],
  ["a newer minor", { nodeVersion: "20.20.2" }],
  ["a newer major", { nodeVersion: "22.0.0" }],
  ["Arm", { architecture: "arm64" }],
])("%s will do", (_name, change) => {
  expect(() => checkPrerequisites({ ...GOOD, ...change })).not.toThrow();
});

test("so will this host", () => {
  expect(() => checkPrerequisites()).not.toThrow();
});

test.each<[Partial<Host>, string]>([
  [{ platform: "darwin" }, "firectl runs on Linux only, and this is darwin"],
  [{ nodeVersion: "20.10.9" }, "firectl needs Node 20.11 or newer, and this is 20.10.9"],
  [{ nodeVersion: "18.20.0" }, "firectl needs Node 20.11 or newer, and this is 18.20.0"],
  [{ architecture: "ia32" }, "firectl runs on x86_64 and arm64, and this Node is built for ia32"],
  [{ hasProc: false }, "firectl needs /proc, which is not mounted"],
])("%j is refused", (change, message) => {
  const check = (): void => checkPrerequisites({ ...GOOD, ...change });
  expect(check).toThrow(FirectlError);
  expect(check).toThrow(message);
});
