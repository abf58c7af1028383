import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const kernelRm: Command = defineCommand({
  name: "kernel rm",
  aliases: ["kernel remove"],
  summary: "Remove guest kernels",
  arguments: "KERNEL [KERNEL...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {},
  examples: ["firectl kernel rm mine"],
  async handler({ args }, context) {
    const operations = await context.firectl();
    return forEach(args, {
      context,
      act: async (name) => {
        await operations.removeKernel(name);
        return name;
      },
    });
  },
});
