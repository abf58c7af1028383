import { describe, expect, test } from "vitest";
import type { RunOptions } from "./api.ts";
import { checkRunOptions } from "./vm-options.ts";

describe("checkRunOptions", () => {
  test("fills in defaults, the configuration's before the built-in ones", () => {
    expect(checkRunOptions({}, {})).toEqual({
      cpus: 1,
      memoryMib: 512,
      diskBytes: 10 * 1024 ** 3,
      logBytes: 16 * 1024 ** 2,
      stopTimeoutMs: 10_000,
    });
    expect(checkRunOptions({ cpus: 3 }, { cpus: 2, memoryMib: 128 })).toMatchObject({
      cpus: 3,
      memoryMib: 128,
    });
  });

  test("rounds memory up to whole mebibytes", () => {
    expect(checkRunOptions({ memoryBytes: 100 * 1024 ** 2 + 1 }, {}).memoryMib).toBe(101);
  });

  test.each<[Partial<RunOptions>, string]>([
    [{ cpus: 0 }, "--cpus: 0 is not a number from 0.01 to 32"],
    [{ cpus: 33 }, "--cpus: 33"],
    [{ cpus: 0.001 }, "--cpus: 0.001"],
    [{ cpus: Number.NaN }, "--cpus: NaN"],
    [{ memoryBytes: 63 * 1024 ** 2 }, "--memory: 63 MiB"],
    [{ diskBytes: 1 }, "--disk-size: 1 bytes"],
    [{ hostname: "a_b" }, '--hostname: "a_b"'],
    [{ hostname: "a".repeat(64) }, "--hostname"],
    [{ env: ["NOVALUE"] }, 'environment variable "NOVALUE" is not KEY=value'],
    [{ env: ["=x"] }, "is not KEY=value"],
    [{ env: ["A=\0"] }, "is not KEY=value"],
    [{ kernelArguments: ["a b"] }, '--kernel-args: "a b"'],
    [{ kernelArguments: ["firectl.probe"] }, '"firectl.probe" is firectl\'s own'],
    [{ kernelArguments: ["x".repeat(1537)] }, "1537 bytes are more than the 1536"],
    [{ name: "a/b" }, '"a/b" cannot be a VM\'s name'],
  ])("refuses %j", (run, message) => {
    expect(() => checkRunOptions(run, {})).toThrow(message);
  });

  test("takes the edges of what is allowed", () => {
    checkRunOptions({ cpus: 0.01 }, {});
    checkRunOptions({ cpus: 32, memoryBytes: 64 * 1024 ** 2, hostname: "a".repeat(63), env: ["A="] }, {});
    checkRunOptions({ kernelArguments: ["x".repeat(1536)] }, {});
  });
});
