import { expect, test } from "vitest";
import { costOfProcess, parseCpuMs } from "./process-cost.ts";

test("a living process costs processor time and memory", () => {
  const cost = costOfProcess(process.pid);
  expect(cost?.cpuMs).toBeGreaterThan(0);
  expect(cost?.memoryBytes).toBeGreaterThan(1024 * 1024);
});

test("one that is not there costs nothing", () => {
  expect(costOfProcess(2 ** 22 + 1)).toBeUndefined();
});

test("the name of a process is not mistaken for its fields", () => {
  expect(parseCpuMs("7 (a) 1 2 (b) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0")).toBe(420);
  expect(parseCpuMs("")).toBeUndefined();
});
