import type { OutputChunk } from "../../manager/api.ts";
import { statusOf } from "../attach.ts";
import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import type { CliIo } from "../io.ts";
import { collectEnv, parseKeyValue } from "../key-values.ts";
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
  examples: ["firectl exec web nginx -t", "echo 'select 1' | firectl exec -i -u postgres db psql"],
  async handler({ flags, args: [vm = "", ...command] }, context) {
    const env = collectEnv({ files: flags["env-file"], pairs: flags.env }, context.io.env);
    const operations = await context.firectl();
    const { io } = context;
    const output = outputTo(io, context.interrupts.signal());
    const executed = operations.exec(vm, {
      command,
      env,
      ...defined({ user: flags.user, workingDir: flags.workdir }),
      ...(flags.interactive ? { stdin: io.stdin } : {}),
      onOutput: output.write,
      signal: output.signal,
    });
    return statusOf(await executed.catch(output.rethrow), context);
  },
});

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
