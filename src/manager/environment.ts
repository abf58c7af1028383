import { FirectlError } from "../core/errors.ts";
import { MAX_TIMER_MS } from "../core/units.ts";

const MAX_SECONDS = Math.floor(MAX_TIMER_MS / 1000);

/**
 * The milliseconds that a variable gives in seconds; undefined where it is not set, or empty.
 * @throws FirectlError INVALID_CONFIGURATION naming variable and value.
 */
export function secondsIn(env: NodeJS.ProcessEnv, variable: string): number | undefined {
  const text = env[variable] ?? "";
  if (text === "") return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds > 0 && seconds <= MAX_SECONDS) return Math.ceil(seconds * 1000);
  throw new FirectlError(
    "INVALID_CONFIGURATION",
    `${variable}: "${text}" is not a number of seconds above 0`,
    {
      hint: `write it without a unit, at most ${MAX_SECONDS}: ${variable}=600`,
    },
  );
}
