import { FirectlError } from "../core/errors.ts";
import type { HealthCheck } from "../image/local-image.ts";
import type { HealthCheckRecord } from "../state/vm-record.ts";
import type { RunOptions } from "./api.ts";

/** https://docs.docker.com/reference/dockerfile/#healthcheck */
const DEFAULTS = {
  intervalMs: 30_000,
  timeoutMs: 30_000,
  startPeriodMs: 0,
  startIntervalMs: 5_000,
  retries: 3,
} as const;

/** Docker's least interval. */
const MIN_TIME_MS = 1;

/**
 * Merges the image's health check with the flags of `run`, by Docker's rules: each flag replaces its part of the
 * image's. Undefined when there is none.
 * @throws FirectlError INVALID_ARGUMENT when there are flags for a check that nobody gives, or of less than 1 ms.
 */
export function healthCheckOf(
  image: HealthCheck | undefined,
  options: RunOptions["healthCheck"],
): HealthCheckRecord | undefined {
  if (options === false) return undefined;
  const { command, ...numbers } = options ?? {};
  for (const [name, value] of Object.entries(numbers)) {
    const isTime = name !== "retries" && name !== "startPeriodMs";
    if (!(value >= (isTime ? MIN_TIME_MS : 0))) {
      throw new FirectlError("INVALID_ARGUMENT", `health check: ${name} of ${value} is less than 1 ms`);
    }
  }
  const args = command === undefined ? argumentsOf(image?.test ?? []) : shell(command);
  if (args === undefined) {
    if (Object.keys(numbers).length === 0) return undefined;
    throw new FirectlError(
      "INVALID_ARGUMENT",
      "neither the image nor the flags give a health check command",
      {
        hint: "add --health-cmd COMMAND",
      },
    );
  }
  const ofImage = {
    intervalMs: milliseconds(image?.intervalNs),
    timeoutMs: milliseconds(image?.timeoutNs),
    startPeriodMs: milliseconds(image?.startPeriodNs),
    startIntervalMs: milliseconds(image?.startIntervalNs),
    retries: image?.retries,
  };
  const pick = (name: keyof typeof DEFAULTS): number =>
    // In an image, 0 means "inherit", which comes down to the default; and so it does in docker's flags.
    numbers[name] || ofImage[name] || DEFAULTS[name];
  return {
    args,
    intervalMs: pick("intervalMs"),
    timeoutMs: pick("timeoutMs"),
    startPeriodMs: pick("startPeriodMs"),
    startIntervalMs: pick("startIntervalMs"),
    retries: pick("retries"),
  };
}

/** argv of an image's check; undefined for none. */
function argumentsOf(test: readonly string[]): string[] | undefined {
  const [kind, ...rest] = test;
  if (kind === "CMD" && rest.length > 0) return rest;
  if (kind === "CMD-SHELL" && rest[0] !== undefined) return shell(rest[0]);
  return undefined;
}

function shell(command: string): string[] {
  return ["/bin/sh", "-c", command];
}

function milliseconds(ns: number | undefined): number | undefined {
  return ns === undefined ? undefined : ns / 1e6;
}
