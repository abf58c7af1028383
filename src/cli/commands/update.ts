import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";
import { sizesFrom, UPDATE_FLAGS } from "../resource-flags.ts";

export const update: Command = defineCommand({
  name: "update",
  summary: "Change the limits of VMs",
  description:
    "A running VM is limited anew at once: to as many processors and as much memory as it has booted with. Memory\nthat is taken away goes back to this host. What it cannot have now, a stopped VM has from its next start on.\nWhat is not given stays as it is.",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: UPDATE_FLAGS,
  examples: ["firectl update -m 256m --cpus 0.5 web", "firectl update --disk-bps 10m --pids-limit 200 web"],
  async handler({ flags, given, args }, context) {
    if (!Object.keys(UPDATE_FLAGS).some((name) => given.has(name))) {
      throw new FirectlError("INVALID_ARGUMENT", "update: nothing to change was given", {
        hint: "see firectl update --help",
      });
    }
    const operations = await context.firectl();
    const options = {
      ...sizesFrom(flags),
      ...(flags.cpus === undefined ? {} : { cpus: flags.cpus }),
      ...(flags.memory === undefined ? {} : { memoryBytes: flags.memory }),
      signal: context.interrupts.signal(),
    };
    return forEach(args, {
      context,
      act: async (vm) => {
        await operations.update(vm, options);
        return vm;
      },
    });
  },
});
