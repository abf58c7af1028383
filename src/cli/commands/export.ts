import { type Command, defineCommand } from "../command.ts";
import { OUTPUT_FLAG, writeOutput } from "../output-file.ts";

export const exportCommand: Command = defineCommand({
  name: "export",
  summary: "Write a VM's filesystem as a tar",
  description: `Reads the VM's disks, without starting or mounting anything. A running VM's writes are held back while
its disk is copied. What the guest mounts (/proc, /sys, /dev) and sockets are not in the archive.`,
  arguments: "VM",
  minArguments: 1,
  maxArguments: 1,
  flags: {
    ...OUTPUT_FLAG,
  },
  examples: ["firectl export -o web.tar web", "firectl export web | tar -tv"],
  async handler({ flags, args: [vm = ""] }, context) {
    const operations = await context.firectl();
    const archive = operations.exportVm(vm, { signal: context.interrupts.signal() });
    await writeOutput(context.io, archive, flags.output);
    return 0;
  },
});
