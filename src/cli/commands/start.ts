import { FirectlError } from "../../core/errors.ts";
import { attachToWorkload } from "../attach.ts";
import { type Command, defineCommand } from "../command.ts";
import { forEach } from "../each.ts";

export const start: Command = defineCommand({
  name: "start",
  summary: "Start VMs again that have ended",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    attach: {
      kind: "boolean",
      short: "a",
      summary: "Stay in the foreground, as run does, and exit with the workload's status",
    },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: ["firectl start web", "firectl start -a job"],
  async handler({ flags, args }, context) {
    const [first = ""] = args;
    if (flags.attach && args.length > 1) {
      throw new FirectlError("INVALID_ARGUMENT", `start: --attach takes one VM, got ${args.join(" ")}`);
    }
    if (flags.attach) context.passStatusOn();
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const options = { signal: context.interrupts.signal(), onProgress: progress.update };
    if (flags.attach) {
      const vm = await operations.start(first, { ...options, detach: false });
      progress.stop();
      return attachToWorkload(vm, context);
    }
    return forEach(args, {
      context,
      act: async (name) => {
        await using _started = await operations.start(name, { ...options, detach: true });
        progress.stop();
        return name;
      },
    });
  },
});
