import { type Command, defineCommand } from "../command.ts";

export const kernelDefault: Command = defineCommand({
  name: "kernel default",
  summary: "Choose the kernel that VMs boot",
  arguments: "KERNEL",
  minArguments: 1,
  maxArguments: 1,
  flags: {},
  examples: ["firectl kernel default mine"],
  async handler({ args: [name = ""] }, context) {
    await (await context.firectl()).setDefaultKernel(name);
    context.io.stdout.write(`${name}\n`);
    return 0;
  },
});
