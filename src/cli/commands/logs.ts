import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { interruptedStatus } from "../interrupts.ts";
import { writeLogs } from "../log-output.ts";
import { parseMoment, wholeNumber } from "../values.ts";

const parseLineCount = wholeNumber(0, Number.MAX_SAFE_INTEGER);

export const logs: Command = defineCommand({
  name: "logs",
  summary: "Print what a VM's workload has written",
  description: "Works while the VM runs and after it has ended, until it is removed.",
  arguments: "VM",
  minArguments: 1,
  maxArguments: 1,
  flags: {
    follow: { kind: "boolean", short: "f", summary: "Go on until the workload ends" },
    since: {
      kind: "value",
      placeholder: "TIME",
      parse: parseMoment,
      summary: "Only what is newer: a duration (10m), an RFC 3339 time or Unix seconds",
    },
    until: {
      kind: "value",
      placeholder: "TIME",
      parse: parseMoment,
      summary: "Only what is older; ends --follow when it has come",
    },
    tail: {
      kind: "value",
      short: "n",
      placeholder: "LINES",
      parse: (text, flag): number | undefined => (text === "all" ? undefined : parseLineCount(text, flag)),
      summary: "Only the last lines, or all",
    },
    timestamps: { kind: "boolean", short: "t", summary: "Begin each line with its time" },
    details: { kind: "boolean", summary: "Accepted, as docker's: there are no details to show" },
    console: { kind: "boolean", summary: "Print the guest kernel's console instead" },
  },
  examples: ["firectl logs -f web", "firectl logs --since 10m -n 100 web", "firectl logs --console web"],
  async handler({ flags, given, args: [vm = ""] }, context) {
    const clash = ["since", "until", "tail", "timestamps"].find((name) => given.has(name));
    if (flags.console && clash !== undefined) {
      throw new FirectlError("INVALID_ARGUMENT", `logs: --${clash} does not go with --console`, {
        hint: "the console has neither lines of one origin nor times: leave one of the two out",
      });
    }
    const operations = await context.firectl();
    const common = { follow: flags.follow, ...(flags.follow ? { signal: context.interrupts.signal() } : {}) };
    try {
      if (flags.console) {
        for await (const bytes of operations.consoleLog(vm, common)) await context.io.stdout.stream(bytes);
        return 0;
      }
      const entries = operations.logs(vm, {
        ...common,
        ...defined({ sinceUnixNs: flags.since, untilUnixNs: flags.until, tail: flags.tail }),
      });
      await writeLogs(entries, { io: context.io, timestamps: flags.timestamps });
      return 0;
    } catch (error) {
      // Ctrl-C is how following ends: as in docker, there is nothing to say about it.
      if (context.interrupts.received() === "SIGINT") return interruptedStatus("SIGINT");
      throw error;
    }
  },
});
