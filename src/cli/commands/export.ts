import { type Command, defineCommand } from "../command.ts";
import { writeOutput } from "../output-file.ts";
import { parseText } from "../values.ts";

export const exportCommand: Command = defineCommand({
  name: "export",
  summary: "Write a VM's filesystem as a tar",
  description: `Reads the VM's disks, without starting or mounting anything. A running VM's writes are held back while
its disk is copied. What the guest mounts (/proc, /sys, /dev) and sockets are not in the archive.`,
  arguments: "VM",
  minArguments: 1,
  maxArguments: 1,
  flags: {
    output: {
      kind: "value",
      short: "o",
      placeholder: "FILE",
      parse: parseText,
      summary: "Write to FILE, whole or not at all, instead of stdout",
    },
  },
  examples: ["firectl export -o web.tar web", "firectl export web | tar -tv"],
  async handler({ flags, args: [vm = ""] }, context) {
    const operations = await context.firectl();
    const archive = operations.exportVm(vm, { signal: context.interrupts.signal() });
    await writeOutput(context.io, archive, { file: flags.output, what: "an archive" });
    return 0;
  },
});
