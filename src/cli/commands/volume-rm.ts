import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const volumeRm: Command = defineCommand({
  name: "volume rm",
  aliases: ["volume remove"],
  summary: "Remove volumes that no VM has",
  arguments: "VOLUME [VOLUME...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: { force: { kind: "boolean", short: "f", summary: "Do not mind one that is not there" } },
  examples: ["firectl volume rm data", "firectl volume rm $(firectl volume ls -q -f dangling=true)"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    return forEach(args, {
      context,
      act: async (name) => {
        try {
          await operations.removeVolume(name);
          return name;
        } catch (error) {
          const isGone = error instanceof FirectlError && error.code === "VOLUME_NOT_FOUND";
          if (!(flags.force && isGone)) throw error;
          return undefined;
        }
      },
    });
  },
});
