import { describe, expect, test } from "vitest";
import type { HealthCheck } from "../image/local-image.ts";
import type { HealthCheckOptions } from "./api.ts";
import { healthCheckOf } from "./health-check.ts";

const DEFAULTS = {
  intervalMs: 30_000,
  timeoutMs: 30_000,
  startPeriodMs: 0,
  startIntervalMs: 5_000,
  retries: 3,
};
const image: HealthCheck = {
  test: ["CMD", "check", "-q"],
  intervalNs: 1_500_000_000,
  timeoutNs: 2e9,
  startPeriodNs: 3e9,
  startIntervalNs: 4e9,
  retries: 5,
};

describe("healthCheckOf", () => {
  test.each<[string, HealthCheck | undefined]>([
    ["no check", undefined],
    ["NONE", { test: ["NONE"] }],
    ["an empty test", { test: [] }],
    ["a list without a program", { test: ["CMD"] }],
    ["a shell without a command", { test: ["CMD-SHELL"] }],
    ["a kind that nobody knows", { test: ["EXEC", "x"] }],
  ])("finds none in an image with %s", (_what, check) => {
    expect(healthCheckOf(check, undefined)).toBeUndefined();
    expect(() => healthCheckOf(check, { retries: 1 })).toThrow(
      "neither the image nor the flags give a health check command",
    );
  });

  test("takes the image's, with Docker's defaults for what it leaves open", () => {
    expect(healthCheckOf(image, undefined)).toEqual({
      args: ["check", "-q"],
      intervalMs: 1500,
      timeoutMs: 2000,
      startPeriodMs: 3000,
      startIntervalMs: 4000,
      retries: 5,
    });
    expect(healthCheckOf({ test: ["CMD-SHELL", "a || b"], intervalNs: 0, retries: 0 }, {})).toEqual({
      args: ["/bin/sh", "-c", "a || b"],
      ...DEFAULTS,
    });
  });

  test("lets each flag replace its part", () => {
    expect(healthCheckOf(image, { command: "x y", timeoutMs: 7 })).toMatchObject({
      args: ["/bin/sh", "-c", "x y"],
      intervalMs: 1500,
      timeoutMs: 7,
    });
    expect(healthCheckOf(undefined, { command: "x" })).toEqual({ args: ["/bin/sh", "-c", "x"], ...DEFAULTS });
    expect(healthCheckOf(image, false)).toBeUndefined();
  });

  test.each<HealthCheckOptions>([
    { intervalMs: 0 },
    { timeoutMs: 0.9 },
    { startIntervalMs: -1 },
    { startPeriodMs: -1 },
    { retries: Number.NaN },
  ])("refuses %j", (options) => {
    expect(() => healthCheckOf(image, options)).toThrow("is less than");
  });
});
