import type { StopOptions } from "../manager/api.ts";
import type { CommandInput, Flags } from "./command.ts";
import { defined } from "./defined.ts";
import { parseSignal, parseWait } from "./values.ts";

/** Flags of every command that stops a VM's workload. */
export const STOP_FLAGS = {
  signal: {
    kind: "value",
    short: "s",
    placeholder: "SIGNAL",
    parse: parseSignal,
    summary: "The stop signal (default: the VM's --stop-signal, the image's, or SIGTERM)",
  },
  time: {
    kind: "value",
    short: "t",
    placeholder: "SECONDS",
    parse: parseWait,
    summary: "How long to wait before killing (default: the VM's --stop-timeout, or 10)",
  },
  // Docker's newer name of --time.
  timeout: { kind: "value", placeholder: "SECONDS", parse: parseWait, summary: "As --time", hidden: true },
} as const satisfies Flags;

/** How the workload is asked to stop, and how long it may take. */
export function stopOptionsFrom(
  flags: CommandInput<typeof STOP_FLAGS>["flags"],
): Pick<StopOptions, "stopSignal" | "timeoutMs"> {
  return defined({ stopSignal: flags.signal, timeoutMs: flags.time ?? flags.timeout });
}
