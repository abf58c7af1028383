import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { forEach } from "../each.ts";
import { parseSignal, parseWait } from "../values.ts";

export const stop: Command = defineCommand({
  name: "stop",
  summary: "Stop VMs and remove everything of them",
  description:
    "Sends the stop signal to the workload, waits, then kills it. Afterwards process, disks, sockets, logs\nand record are gone; with --keep they stay, and firectl start starts the VM again.",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    keep: { kind: "boolean", summary: "Keep disks, logs and record, for firectl start" },
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
  },
  examples: ["firectl stop web", "firectl stop --keep -t 30 db", "firectl stop -s INT builder"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    const options = {
      keep: flags.keep,
      signal: context.interrupts.signal(),
      ...defined({ stopSignal: flags.signal, timeoutMs: flags.time ?? flags.timeout }),
    };
    return forEach(args, {
      context,
      act: async (vm) => {
        await operations.stop(vm, options);
        return vm;
      },
    });
  },
});
