import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";
import { choice } from "../values.ts";

type Condition = "exited" | "healthy" | "unhealthy";
const parseCondition: (text: string, flag: string) => Condition = choice("exited", "healthy", "unhealthy");

export const wait: Command = defineCommand({
  name: "wait",
  summary: "Wait until VMs end, or are healthy, and print their exit status",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    condition: {
      kind: "value",
      placeholder: "WHAT",
      parse: parseCondition,
      summary: "exited (the default), healthy or unhealthy",
    },
  },
  examples: ["firectl wait job", "firectl wait --condition healthy web"],
  async handler({ args, flags }, context) {
    const operations = await context.firectl();
    const signal = context.interrupts.signal();
    return forEach(args, {
      context,
      act: async (vm) => {
        const condition = flags.condition ?? "exited";
        if (condition === "exited") return String((await operations.wait(vm, { signal })).exitCode);
        await operations.waitForHealth(vm, condition, { signal });
        return condition;
      },
    });
  },
});
