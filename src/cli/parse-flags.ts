import { parseArgs } from "node:util";
import { FirectlError } from "../core/errors.ts";
import { closest } from "../core/spelling.ts";
import type { Command, CommandInput, Flag, Flags } from "./command.ts";
import { missingDockerFlag } from "./docker-flags.ts";
import { parseBoolean } from "./values.ts";

/** Flags that every command takes. */
export const GLOBAL_FLAGS = {
  help: { kind: "boolean", summary: "Print this help" },
  json: { kind: "boolean", summary: "Print results and errors as JSON, for programs" },
} as const satisfies Flags;

export interface ParsedCommandLine {
  readonly input: CommandInput<Flags>;
  readonly help: boolean;
  readonly json: boolean;
}

/** All flags of a command, the global ones last; `-h` is help where the command does not need it itself. */
export function allFlags(command: Command): Flags {
  const taken = Object.values(command.flags).some((flag) => flag.short === "h");
  const help: Flag = taken ? GLOBAL_FLAGS.help : { ...GLOBAL_FLAGS.help, short: "h" };
  return { ...command.flags, json: GLOBAL_FLAGS.json, help };
}

type Token = NonNullable<ReturnType<typeof tokenize>>[number];

/**
 * Reads the arguments of a command as docker does: flags before, between and after the positional arguments,
 * or, with `passThrough`, only before the first.
 * @throws FirectlError INVALID_ARGUMENT naming flag and value, UNSUPPORTED for a flag that only docker has.
 */
export function parseCommandLine(command: Command, argv: readonly string[]): ParsedCommandLine {
  const { own, rest } = splitAtFirstPositional(command, argv);
  const values = new Map<string, unknown>();
  const lists = new Map<string, unknown[]>();
  const positionals: string[] = [];
  for (const token of tokenize(command, own)) {
    if (token.kind === "positional") positionals.push(token.value);
    else if (token.kind === "option") readFlag(command, token, { values, lists });
  }
  positionals.push(...rest);
  const globals = { help: values.get("help") === true, json: values.get("json") === true };
  if (!globals.help) checkCount(command, positionals);
  const given = new Set([...values.keys(), ...lists.keys()]);
  return { input: { flags: flagValues(command, values, lists), given, args: positionals }, ...globals };
}

/**
 * Exit status of firectl's own failures with this command line, also when it is wrong; undefined for that of each
 * error's kind.
 */
export function failureStatusOfCommand(command: Command, argv: readonly string[]): number | undefined {
  const { failureStatus, failureStatusFlags } = command;
  if (failureStatusFlags === undefined) return failureStatus;
  const isAsked = tokenize(command, argv).some(
    (token) => token.kind === "option" && failureStatusFlags.includes(token.name) && token.value !== "false",
  );
  return isAsked ? failureStatus : undefined;
}

function tokenize(command: Command, argv: readonly string[]) {
  const options: Record<string, { type: "boolean" | "string"; short?: string; multiple?: boolean }> = {};
  for (const [name, flag] of Object.entries(allFlags(command))) {
    options[name] = {
      type: flag.kind === "boolean" ? "boolean" : "string",
      ...(flag.short === undefined ? {} : { short: flag.short }),
      multiple: flag.kind === "list",
    };
  }
  // Not strict: our own errors name the command's help and docker's flags.
  const parsed = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true, tokens: true });
  return parsed.tokens;
}

/** With `passThrough`, everything after the first positional argument is kept out of the parser's sight. */
function splitAtFirstPositional(
  command: Command,
  argv: readonly string[],
): { own: readonly string[]; rest: readonly string[] } {
  if (command.passThrough !== true) return { own: argv, rest: [] };
  const first = tokenize(command, argv).find((token) => token.kind === "positional");
  if (first === undefined) return { own: argv, rest: [] };
  return { own: argv.slice(0, first.index + 1), rest: argv.slice(first.index + 1) };
}

function readFlag(
  command: Command,
  token: Extract<Token, { kind: "option" }>,
  into: { values: Map<string, unknown>; lists: Map<string, unknown[]> },
): void {
  const all = allFlags(command);
  const flag = Object.hasOwn(all, token.name) ? all[token.name] : undefined;
  if (flag === undefined) throw unknownFlag(command, token);
  if (flag.kind === "boolean") {
    into.values.set(token.name, token.value === undefined || parseBoolean(token.value, token.rawName));
    return;
  }
  if (token.value === undefined) {
    throw invalid(command, `${token.rawName} needs a value: ${token.rawName} ${flag.placeholder}`);
  }
  // `-m=512m` is docker's spelling too.
  const isShort = !token.rawName.startsWith("--");
  const text = isShort && token.inlineValue ? token.value.replace(/^=/, "") : token.value;
  const value = flag.parse(text, token.rawName);
  if (flag.kind === "value") into.values.set(token.name, value);
  else into.lists.set(token.name, [...(into.lists.get(token.name) ?? []), value]);
}

function flagValues(
  command: Command,
  values: Map<string, unknown>,
  lists: Map<string, unknown[]>,
): Record<string, never> {
  const result: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(command.flags)) {
    if (flag.kind === "boolean") result[name] = values.get(name) === true;
    else if (flag.kind === "list") result[name] = lists.get(name) ?? [];
    else result[name] = values.get(name);
  }
  // FlagValues of the erased Flags has no more exact type; defineCommand gives the handler the real one.
  return result as Record<string, never>;
}

function unknownFlag(command: Command, token: Extract<Token, { kind: "option" }>): FirectlError {
  const docker = missingDockerFlag(command.name, token.name);
  if (docker !== undefined) {
    const when = docker.isPlanned ? " yet" : "";
    const message = `${token.rawName} of docker ${docker.docker} is not supported${when}`;
    return new FirectlError("UNSUPPORTED", message, { hint: docker.hint });
  }
  const names = Object.entries(command.flags).filter(([, flag]) => flag.hidden !== true);
  const like = closest(
    token.name,
    names.map(([name]) => name),
  );
  const guess = like === undefined || !token.rawName.startsWith("--") ? "" : `, did you mean --${like}?`;
  return invalid(command, `unknown flag ${token.rawName}${guess}`);
}

function checkCount(command: Command, args: readonly string[]): void {
  const { minArguments: min, maxArguments: max } = command;
  if (args.length >= min && args.length <= max) return;
  const count = (n: number): string => `${n} argument${n === 1 ? "" : "s"}`;
  const wanted =
    min === max ? (min === 0 ? "no arguments" : `exactly ${count(min)}`) : `at least ${count(min)}`;
  const limit = args.length > max && min !== max ? `at most ${count(max)}` : wanted;
  const got = args.length === 0 ? "none" : args.map((arg) => `"${arg}"`).join(" ");
  throw invalid(command, `takes ${limit} (${usageOf(command)}), got ${got}`);
}

/** The usage line without flags. */
export function usageOf(command: Command): string {
  return `firectl ${command.name} [OPTIONS] ${command.arguments}`.trimEnd();
}

function invalid(command: Command, message: string): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `${command.name}: ${message}`, {
    hint: `see firectl ${command.name} --help`,
  });
}
