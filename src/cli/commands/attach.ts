import { FirectlError } from "../../core/errors.ts";
import { attachToWorkload } from "../attach.ts";
import { type Command, defineCommand } from "../command.ts";
import { ATTACH_FLAGS, BOTH_OUTPUTS, signalsPass } from "../session-flags.ts";
import { checkTerminal, DETACHED, detachKeysFor } from "../typed-input.ts";

export const attach: Command = defineCommand({
  name: "attach",
  summary: "Join a running VM's workload: its output, its input, its terminal",
  description:
    "Shows the output from now on (firectl logs shows what was before) and exits with the workload's status,\nor with 125 when firectl fails. The detach keys leave it running, and exit with 1.",
  arguments: "VM",
  minArguments: 1,
  maxArguments: 1,
  failureStatus: 125,
  flags: {
    "no-stdin": { kind: "boolean", summary: "Do not pass our stdin on" },
    ...ATTACH_FLAGS,
  },
  examples: ["firectl attach web", "firectl attach --no-stdin --sig-proxy=false web"],
  async handler(input, context) {
    const [vm = ""] = input.args;
    const detachKeys = await detachKeysFor(context, input.flags["detach-keys"]);
    const operations = await context.firectl();
    const session = await operations.attach(vm);
    const stdin = !input.flags["no-stdin"] && session.openStdin;
    try {
      checkTerminal(context, { tty: session.tty, stdin });
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return attachToWorkload(session, context, {
      stdin,
      outputs: BOTH_OUTPUTS,
      detachKeys,
      // As in docker: what is typed into a terminal is the signal, and ours are for us.
      signalsPass: signalsPass(input) && !session.tty,
      async leave() {
        context.reportFailure(new FirectlError("INTERRUPTED", DETACHED));
        return 1;
      },
    });
  },
});
