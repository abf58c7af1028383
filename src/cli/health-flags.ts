import { FirectlError } from "../core/errors.ts";
import type { RunOptions } from "../manager/api.ts";
import type { CommandInput } from "./command.ts";
import { defined } from "./defined.ts";
import type { RUN_FLAGS } from "./run-flags.ts";

/** What the flags of `run` say about the health check. @throws FirectlError INVALID_ARGUMENT when they contradict. */
export function healthFrom({
  flags,
  given,
}: Pick<CommandInput<typeof RUN_FLAGS>, "flags" | "given">): Pick<RunOptions, "healthCheck"> {
  const options = defined({
    command: flags["health-cmd"],
    intervalMs: flags["health-interval"],
    timeoutMs: flags["health-timeout"],
    retries: flags["health-retries"],
    startPeriodMs: flags["health-start-period"],
    startIntervalMs: flags["health-start-interval"],
  });
  if (!flags["no-healthcheck"]) return Object.keys(options).length === 0 ? {} : { healthCheck: options };
  const clash = [...given].find((name) => name.startsWith("health-"));
  if (clash === undefined) return { healthCheck: false };
  throw new FirectlError("INVALID_ARGUMENT", `run: --no-healthcheck does not go with --${clash}`);
}
