import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const wait: Command = defineCommand({
  name: "wait",
  summary: "Wait until VMs end and print their exit status",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {},
  examples: ["firectl wait job"],
  async handler({ args }, context) {
    const operations = await context.firectl();
    const signal = context.interrupts.signal();
    return forEach(args, {
      context,
      act: async (vm) => String((await operations.wait(vm, { signal })).exitCode),
    });
  },
});
