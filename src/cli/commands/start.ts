import { FirectlError } from "../../core/errors.ts";
import type { FirectlOperations, StartedVm, StartOptions } from "../../manager/api.ts";
import { attachToWorkload } from "../attach.ts";
import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { forEach } from "../each.ts";
import { ATTACH_FLAGS, BOTH_OUTPUTS, signalsPass } from "../session-flags.ts";
import { detachKeysFor } from "../typed-input.ts";

export const start: Command = defineCommand({
  name: "start",
  summary: "Start VMs again that have ended",
  description: "A VM that runs already is left as it is; with --attach it is joined, as attach does.",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  failureStatus: 125,
  failureStatusFlags: ["attach", "interactive"],
  flags: {
    attach: {
      kind: "boolean",
      short: "a",
      summary: "Stay in the foreground, as run does, and exit with the workload's status",
    },
    interactive: {
      kind: "boolean",
      short: "i",
      summary: "Pass our stdin on, as run -i does; implies --attach",
    },
    ...ATTACH_FLAGS,
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: ["firectl start web", "firectl start -a job", "firectl start -ai shell"],
  async handler(input, context) {
    const { flags, args } = input;
    const [first = ""] = args;
    const stays = flags.attach || flags.interactive;
    if (stays && args.length > 1) {
      throw new FirectlError("INVALID_ARGUMENT", `start: --attach takes one VM, got ${args.join(" ")}`);
    }
    const detachKeys = await detachKeysFor(context, flags["detach-keys"]);
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const options = {
      signal: context.interrupts.signal(),
      onProgress: progress.update,
      ...defined({ terminalSize: context.io.terminalSize() }),
    };
    if (stays) {
      const vm = await startUnlessRunning(operations, first, { ...options, detach: false });
      progress.stop();
      return attachToWorkload(vm ?? (await operations.attach(first)), context, {
        stdin: flags.interactive,
        outputs: BOTH_OUTPUTS,
        detachKeys,
        signalsPass: signalsPass(input),
        async leave() {
          await vm?.detach();
          return 0;
        },
      });
    }
    return forEach(args, {
      context,
      act: async (name) => {
        await using _started = await startUnlessRunning(operations, name, { ...options, detach: true });
        progress.stop();
        return name;
      },
    });
  },
});

/** As in docker, it is no failure when a VM runs already: undefined then. */
async function startUnlessRunning(
  operations: FirectlOperations,
  vm: string,
  options: StartOptions,
): Promise<StartedVm | undefined> {
  try {
    return await operations.start(vm, options);
  } catch (error) {
    const mayRun = error instanceof FirectlError && error.code === "WRONG_STATE";
    if (mayRun && (await operations.inspect(vm))["state"] === "running") return undefined;
    throw error;
  }
}
