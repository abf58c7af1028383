import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const rm: Command = defineCommand({
  name: "rm",
  aliases: ["remove"],
  summary: "Remove VMs that have ended",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    force: {
      kind: "boolean",
      short: "f",
      summary: "Kill a VM that runs, and do not mind one that is not there",
    },
    volumes: { kind: "boolean", short: "v", summary: "Remove its anonymous volumes, too" },
  },
  examples: ["firectl rm job", "firectl rm -f $(firectl list -aq)"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    return forEach(args, {
      context,
      act: async (vm) => {
        try {
          await operations.remove(vm, { force: flags.force, volumes: flags.volumes });
          return vm;
        } catch (error) {
          const isGone = error instanceof FirectlError && error.code === "VM_NOT_FOUND";
          if (!(flags.force && isGone)) throw error;
          return undefined;
        }
      },
    });
  },
});
