import { FirectlError } from "../core/errors.ts";
import { LatestValue } from "../core/latest-value.ts";
import type { TerminalSize } from "../manager/api.ts";
import type { CommandContext } from "./command.ts";
import { DEFAULT_DETACH_KEYS, parseDetachKeys, untilDetachKeys } from "./detach-keys.ts";

/** Docker's words for a user who has typed the detach keys. */
export const DETACHED = "read escape sequence";

/** What goes from our terminal or stdin to a process of a guest. */
export interface TypedInput extends Disposable {
  /** Undefined when nothing is to be sent. */
  readonly stdin: AsyncIterable<Uint8Array> | undefined;
  /** The terminal's sizes from now on, the present one first; none where no terminal is at the other end. */
  readonly resizes: AsyncIterable<TerminalSize>;
  /** Aborts when the detach keys are typed. */
  readonly detached: AbortSignal;
}

export interface TypedInputOptions {
  /** A terminal is at the other end. */
  readonly tty: boolean;
  /** Our stdin is to be sent. */
  readonly stdin: boolean;
  readonly detachKeys: Uint8Array;
}

/**
 * Refuses, in docker's words, to send to a terminal what is typed nowhere.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function checkTerminal(context: CommandContext, options: { tty: boolean; stdin: boolean }): void {
  if (!options.tty || !options.stdin || context.io.stdinIsTerminal) return;
  throw new FirectlError("INVALID_ARGUMENT", "the input device is not a TTY", {
    hint: "leave out -t to pass a file or a pipe on, or -i to pass nothing on",
  });
}

/** Takes over our stdin, and makes its terminal raw where another is at the other end, until it is disposed of. */
export async function takeInput(context: CommandContext, options: TypedInputOptions): Promise<TypedInput> {
  const { io } = context;
  const detached = new AbortController();
  const sizes = new LatestValue<TerminalSize>();
  if (!options.tty) {
    sizes.end();
    const stdin = options.stdin ? io.stdin : undefined;
    return { stdin, resizes: sizes, detached: detached.signal, [Symbol.dispose]() {} };
  }
  const announce = (): void => {
    const size = io.terminalSize();
    if (size !== undefined) sizes.set(size);
  };
  announce();
  const stopResizes = io.onResize(announce);
  const leaveRawMode = options.stdin && io.stdinIsTerminal ? await io.makeRaw() : undefined;
  const onDetach = (): void => detached.abort(new FirectlError("INTERRUPTED", DETACHED));
  return {
    stdin: options.stdin ? untilDetachKeys(io.stdin, { keys: options.detachKeys, onDetach }) : undefined,
    resizes: sizes,
    detached: detached.signal,
    [Symbol.dispose]() {
      stopResizes();
      sizes.end();
      leaveRawMode?.();
      // The cursor stands where the guest has left it.
      if (detached.signal.aborted && io.stdout.isTerminal) io.stdout.write("\n");
    },
  };
}

/**
 * The keys of `--detach-keys`; those of config.json, then docker's, where that is absent or empty.
 * @throws FirectlError INVALID_ARGUMENT, INVALID_CONFIGURATION.
 */
export async function detachKeysFor(context: CommandContext, given: string | undefined): Promise<Uint8Array> {
  if (given !== undefined && given !== "") return parseDetachKeys(given);
  const { readSettings } = await import("../manager/settings.ts");
  const { detachKeys } = await readSettings(context.io.env);
  return parseDetachKeys(detachKeys ?? DEFAULT_DETACH_KEYS, "detachKeys in config.json");
}
