import { FirectlError } from "../../core/errors.ts";
import type { ExitReport, OutputChunk } from "../../manager/api.ts";
import { statusOf } from "../attach.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import type { CliIo } from "../io.ts";
import { collectEnv, parseKeyValue } from "../key-values.ts";
import { ATTACH_FLAGS } from "../session-flags.ts";
import {
  checkTerminal,
  DETACHED,
  detachKeysFor,
  type TypedInput,
  type TypedInputOptions,
  takeInput,
} from "../typed-input.ts";
import { parseGuestPath, parseText, parseUser } from "../values.ts";

export const exec: Command = defineCommand({
  name: "exec",
  summary: "Run a command in a running VM",
  description:
    "Exits with the command's status; 125 when firectl fails, 126 and 127 when the command cannot be run.",
  arguments: "VM COMMAND [ARG...]",
  minArguments: 2,
  maxArguments: Number.POSITIVE_INFINITY,
  passThrough: true,
  failureStatus: 125,
  flags: {
    env: {
      kind: "list",
      short: "e",
      placeholder: "KEY[=VALUE]",
      parse: parseKeyValue,
      summary: "Set a variable; without value, take it from this environment",
    },
    "env-file": {
      kind: "list",
      placeholder: "FILE",
      parse: parseText,
      summary: "Set the variables in a file",
    },
    interactive: { kind: "boolean", short: "i", summary: "Pass stdin on to the command" },
    tty: { kind: "boolean", short: "t", summary: "Give the command a terminal" },
    detach: { kind: "boolean", short: "d", summary: "Start the command and leave it" },
    "detach-keys": ATTACH_FLAGS["detach-keys"],
    privileged: { kind: "boolean", summary: "Accepted for docker's sake: the machine is the boundary" },
    user: {
      kind: "value",
      short: "u",
      placeholder: "USER[:GROUP]",
      parse: parseUser,
      summary: "User to run as",
    },
    workdir: {
      kind: "value",
      short: "w",
      placeholder: "DIR",
      parse: parseGuestPath,
      summary: "Working directory",
    },
  },
  examples: [
    "firectl exec web nginx -t",
    "firectl exec -it web sh",
    "echo 'select 1' | firectl exec -i -u postgres db psql",
  ],
  async handler({ flags, args: [vm = "", ...command] }, context) {
    const env = collectEnv({ files: flags["env-file"], pairs: flags.env }, context.io.env);
    if (!flags.detach) checkTerminal(context, { tty: flags.tty, stdin: flags.interactive });
    const detachKeys = await detachKeysFor(context, flags["detach-keys"]);
    const operations = await context.firectl();
    const { io } = context;
    const options = {
      command,
      env,
      tty: flags.tty,
      ...defined({ user: flags.user, workingDir: flags.workdir, terminalSize: io.terminalSize() }),
    };
    if (flags.detach) {
      const failure = await operations.execDetached(vm, options);
      return failure === undefined ? 0 : statusOf(failure, context);
    }
    const output = outputTo(io, context.interrupts.signal());
    const report = await attended(
      context,
      { tty: flags.tty, stdin: flags.interactive, detachKeys },
      (input) =>
        operations.exec(vm, {
          ...options,
          ...defined({ stdin: input.stdin }),
          resizes: input.resizes,
          detachSignal: input.detached,
          onOutput: output.write,
          signal: output.signal,
        }),
    ).catch(output.rethrow);
    if (report !== "left") return statusOf(report, context);
    context.reportFailure(new FirectlError("INTERRUPTED", DETACHED));
    return 1;
  },
});

/** Does `work` with our input, and gives that back before anything else is said. */
async function attended(
  context: CommandContext,
  options: TypedInputOptions,
  work: (input: TypedInput) => Promise<ExitReport>,
): Promise<ExitReport | "left"> {
  using input = await takeInput(context, options);
  try {
    return await work(input);
  } catch (error) {
    if (input.detached.aborted) return "left";
    throw error;
  }
}

/** Writes the command's output; when it cannot be written, the command is given up for that reason. */
function outputTo(io: CliIo, interrupted: AbortSignal) {
  const closed = new AbortController();
  return {
    signal: AbortSignal.any([interrupted, closed.signal]),
    write(chunk: OutputChunk): void {
      try {
        (chunk.stream === "stdout" ? io.stdout : io.stderr).write(chunk.data);
      } catch (error) {
        closed.abort(error);
      }
    },
    rethrow(error: unknown): never {
      throw closed.signal.aborted ? closed.signal.reason : error;
    },
  };
}
