import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";
import { STOP_FLAGS, stopOptionsFrom } from "../stop-flags.ts";

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
    ...STOP_FLAGS,
  },
  examples: ["firectl stop web", "firectl stop --keep -t 30 db", "firectl stop -s INT builder"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    const options = {
      keep: flags.keep,
      signal: context.interrupts.signal(),
      ...stopOptionsFrom(flags),
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
