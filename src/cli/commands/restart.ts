import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";
import { STOP_FLAGS, stopOptionsFrom } from "../stop-flags.ts";

export const restart: Command = defineCommand({
  name: "restart",
  summary: "Stop VMs and start them again",
  description:
    "As stop --keep and then start: the workload begins anew on the disk that it left. A VM that has ended is\nonly started.",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    ...STOP_FLAGS,
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: ["firectl restart web", "firectl restart -t 30 db"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const options = {
      signal: context.interrupts.signal(),
      onProgress: progress.update,
      ...stopOptionsFrom(flags),
    };
    return forEach(args, {
      context,
      act: async (vm) => {
        await operations.restart(vm, options);
        progress.stop();
        return vm;
      },
    });
  },
});
