import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";
import { parseSignal } from "../values.ts";

export const kill: Command = defineCommand({
  name: "kill",
  summary: "Send a signal to the workload of VMs",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    signal: {
      kind: "value",
      short: "s",
      placeholder: "SIGNAL",
      parse: parseSignal,
      summary: "Name or number of the signal (default SIGKILL)",
    },
  },
  examples: ["firectl kill web", "firectl kill -s HUP web"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    return forEach(args, {
      context,
      act: async (vm) => {
        await operations.kill(vm, flags.signal ?? "SIGKILL");
        return vm;
      },
    });
  },
});
