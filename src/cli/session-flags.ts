import { FirectlError } from "../core/errors.ts";
import type { RunOptions } from "../manager/api.ts";
import type { CommandContext, CommandInput, Flags } from "./command.ts";
import { defined } from "./defined.ts";
import { checkTerminal } from "./typed-input.ts";

const STREAMS = "Streams";

/** Flags of every command that stays with a process of a guest. */
export const ATTACH_FLAGS = {
  "detach-keys": {
    kind: "value",
    placeholder: "KEYS",
    parse: (text: string): string => text,
    summary: "Keys that leave a terminal (default ctrl-p,ctrl-q)",
    group: STREAMS,
  },
  "sig-proxy": {
    kind: "boolean",
    summary: "Pass signals on to the process (default true); =false: they leave it",
    group: STREAMS,
  },
} as const satisfies Flags;

/** Flags of `run` about the process's standard streams and what stands before it. */
export const SESSION_FLAGS = {
  interactive: {
    kind: "boolean",
    short: "i",
    summary: "Keep the process's stdin open, and pass ours on",
    group: STREAMS,
  },
  tty: { kind: "boolean", short: "t", summary: "Give the process a terminal", group: STREAMS },
  attach: {
    kind: "list",
    short: "a",
    placeholder: "STREAM",
    parse: parseStream,
    summary: "Pass on only stdin, stdout or stderr; may be given several times",
    group: STREAMS,
  },
  ...ATTACH_FLAGS,
} as const satisfies Flags;

type Stream = "stdin" | "stdout" | "stderr";

function parseStream(text: string, flag: string): Stream {
  const name = text.toLowerCase();
  if (name === "stdin" || name === "stdout" || name === "stderr") return name;
  throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not stdin, stdout or stderr`);
}

/** Which streams pass between us and a process. */
export interface Attached {
  readonly stdin: boolean;
  readonly outputs: ReadonlySet<"stdout" | "stderr">;
}

export const BOTH_OUTPUTS: Attached["outputs"] = new Set(["stdout", "stderr"]);

type SessionInput = Pick<
  CommandInput<typeof SESSION_FLAGS & { detach: { kind: "boolean"; summary: string } }>,
  "flags" | "given"
>;

/**
 * Which streams a run passes on.
 * @throws FirectlError INVALID_ARGUMENT for flags that contradict, and for a terminal without one of ours.
 */
export function attachedFrom({ flags, given }: SessionInput, context: CommandContext): Attached {
  const named = new Set(flags.attach);
  if (flags.detach && given.has("attach")) {
    throw new FirectlError("INVALID_ARGUMENT", "run: --attach does not go with --detach");
  }
  const stdin = flags.interactive && (named.size === 0 || named.has("stdin"));
  if (!flags.detach) checkTerminal(context, { tty: flags.tty, stdin });
  if (named.size === 0) return { stdin, outputs: BOTH_OUTPUTS };
  const outputs = (["stdout", "stderr"] as const).filter((name) => named.has(name));
  return { stdin, outputs: new Set(outputs) };
}

/** What the flags of `run` say about the process's streams. */
export function sessionFrom(
  { flags }: SessionInput,
  context: CommandContext,
): Pick<RunOptions, "tty" | "openStdin" | "terminalSize"> {
  return {
    ...(flags.interactive ? { openStdin: true } : {}),
    ...(flags.tty ? { tty: true, ...defined({ terminalSize: context.io.terminalSize() }) } : {}),
  };
}

/** Whether signals go to the process: they do unless it is turned off. */
export function signalsPass({
  flags,
  given,
}: Pick<CommandInput<typeof ATTACH_FLAGS>, "flags" | "given">): boolean {
  return !given.has("sig-proxy") || flags["sig-proxy"];
}
