import { ERROR_CODES, exitStatusOf, FirectlError, messageOf } from "../core/errors.ts";
import { redactCredentials, redactForeign } from "../core/redact.ts";
import type { Sink } from "./io.ts";
import { escapeControlsInLines, safeJson } from "./sanitize.ts";

export interface ReportOptions {
  /** One JSON object instead of text. */
  readonly json: boolean;
  /** Stacks and causes of known errors too (`FIRECTL_DEBUG=1`). */
  readonly debug: boolean;
  /** Exit status to report; the error's own when absent. */
  readonly exitStatus?: number | undefined;
}

/** Prints what a user needs to know of `error`: a known one in a sentence and a hint, a bug with its stack. */
export function reportError(error: unknown, stderr: Sink, options: ReportOptions): void {
  stderr.write(`${options.json ? errorAsJson(error, options) : errorAsText(error, options)}\n`);
}

function errorAsText(error: unknown, options: ReportOptions): string {
  const lines =
    error instanceof FirectlError
      ? [
          clean(`firectl: ${error.message}`),
          ...(error.hint === undefined ? [] : [clean(`hint: ${error.hint}`)]),
          ...(options.debug ? stacksOf(error) : []),
        ]
      : [
          cleanForeign(`firectl: unexpected error: ${messageOf(error)}`),
          ...stacksOf(error),
          "hint: this is a bug of firectl: please report it with the lines above",
        ];
  return lines.join("\n");
}

function errorAsJson(error: unknown, options: ReportOptions): string {
  const known = error instanceof FirectlError ? error : undefined;
  const object = {
    code: known?.code ?? "BUG",
    kind: known === undefined ? "bug" : ERROR_CODES[known.code],
    message: known === undefined ? cleanForeign(messageOf(error)) : clean(known.message),
    ...(known?.hint === undefined ? {} : { hint: clean(known.hint) }),
    exitStatus: options.exitStatus ?? exitStatusOf(error),
    ...(known === undefined || options.debug ? { stack: stacksOf(error) } : {}),
  };
  return safeJson({ error: object });
}

/** The stack of an error and of what caused it, innermost last; whoever made those may have quoted a secret. */
function stacksOf(error: unknown): string[] {
  const stacks: string[] = [];
  let current = error;
  // A chain of causes may be a ring; nobody reads more than a few.
  for (let depth = 0; depth < 5 && current instanceof Error; depth++) {
    const stack = current.stack ?? messageOf(current);
    stacks.push(cleanForeign(depth === 0 ? stack : `caused by: ${stack}`));
    current = current.cause;
  }
  return stacks;
}

function clean(text: string): string {
  return escapeControlsInLines(redactCredentials(text));
}

/** As {@link clean} for words that are not firectl's. */
function cleanForeign(text: string): string {
  return escapeControlsInLines(redactForeign(text));
}
