import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const rmi: Command = defineCommand({
  name: "rmi",
  summary: "Remove images from the store",
  arguments: "IMAGE [IMAGE...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {},
  examples: ["firectl rmi nginx"],
  async handler({ args }, context) {
    const operations = await context.firectl();
    return forEach(args, {
      context,
      act: async (reference) => {
        await operations.removeImage(reference);
        return reference;
      },
    });
  },
});
