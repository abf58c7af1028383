import { exitStatusOf, FirectlError } from "../core/errors.ts";
import { closest } from "../core/spelling.ts";
import { mark, startTrace } from "../core/trace.ts";
import type { FirectlOperations } from "../manager/api.ts";
import { WorkloadStartError } from "../manager/workload-start-error.ts";
import type { CommandContext } from "./command.ts";
import { lackedCommand, ownNameOf } from "./docker-commands.ts";
import { createInterrupts, type Interrupts, interruptedStatus } from "./interrupts.ts";
import { type CliIo, OutputClosed, processIo } from "./io.ts";
import { failureStatusOfCommand, parseCommandLine } from "./parse-flags.ts";
import type { ProgressDisplay } from "./progress.ts";
import { COMMANDS, resolveCommand } from "./registry.ts";
import { reportError } from "./report-error.ts";
import { firectlVersion } from "./version.ts";

const LINGER_MS = 1000;

export interface RunCliOptions {
  /** How to open the library; firectl's own when absent. */
  readonly open?: (env: NodeJS.ProcessEnv) => Promise<FirectlOperations>;
}

/**
 * The program: runs the command line of this process and sets its exit status.
 * @param startedAt When the launcher's first instruction ran, in milliseconds since the process began.
 */
export async function main(startedAt?: number): Promise<void> {
  const io = processIo();
  const traceFile = io.env["FIRECTL_TRACE"];
  if (traceFile) {
    startTrace();
    mark("first instruction", startedAt);
    mark("main");
  }
  process.exitCode = await runCli(process.argv.slice(2), io);
  await io.close();
  if (traceFile) (await import("./write-trace.ts")).writeTrace(traceFile);
  // Whatever is still open must not keep a command from ending that has said its last word.
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

/** Runs one command line (without `node` and the program's name) and returns its exit status. */
export async function runCli(
  argv: readonly string[],
  io: CliIo,
  options: RunCliOptions = {},
): Promise<number> {
  const interrupts = createInterrupts(io);
  const session: Session = {
    io,
    open: options.open ?? openFirectl,
    interrupts,
    json: io.env["FIRECTL_ERROR_FORMAT"] === "json",
    failureStatus: undefined,
    displays: [],
  };
  // Node would end with status 0 then, as if all had been done.
  const stopWatching = io.onIdle(() => {
    const error = new Error("the command waits for something that can no longer come");
    io.exitNow(reportFailure(error, session));
  });
  try {
    return await dispatch(argv, session);
  } catch (error) {
    if (error instanceof OutputClosed) return 0;
    return reportFailure(error, session);
  } finally {
    stopWatching();
    for (const display of session.displays) display.stop();
    interrupts.release();
  }
}

/** State of one command line. */
interface Session {
  readonly io: CliIo;
  readonly open: (env: NodeJS.ProcessEnv) => Promise<FirectlOperations>;
  readonly interrupts: Interrupts;
  json: boolean;
  /** Exit status of firectl's own failures, once the command is known. */
  failureStatus: number | undefined;
  readonly displays: ProgressDisplay[];
}

async function openFirectl(env: NodeJS.ProcessEnv): Promise<FirectlOperations> {
  const { Firectl } = await import("../manager/firectl.ts");
  mark("firectl module");
  return Firectl.open({ env });
}

/** Acts on the words before the command, then on the command. */
async function dispatch(argv: readonly string[], session: Session): Promise<number> {
  const [first, ...rest] = argv;
  switch (first) {
    case undefined:
      return printHelp([], session);
    case "--json":
      session.json = true;
      return dispatch(rest, session);
    case "-v":
    case "--version":
      session.io.stdout.write(`firectl ${firectlVersion()}\n`);
      return 0;
    case "-h":
    case "--help":
    case "help":
      return printHelp(rest, session);
    default:
      return runCommand(argv, session);
  }
}

async function runCommand(argv: readonly string[], session: Session): Promise<number> {
  const resolved = resolveCommand(argv);
  if (resolved.kind === "unknown") throw unknownCommand(resolved.words, argv);
  if (resolved.kind === "group") return printHelp([resolved.name], session);
  const command = await resolved.entry.load();
  mark("command loaded");
  session.failureStatus = failureStatusOfCommand(command, resolved.rest);
  const { input, help, json } = parseCommandLine(command, resolved.rest);
  mark("parsed");
  if (json) session.json = true;
  if (help) return printHelp([command.name], session);
  return (await command.handler(input, contextOf(session))) ?? 0;
}

function contextOf(session: Session): CommandContext {
  const { io, interrupts } = session;
  return {
    io,
    json: session.json,
    interrupts,
    firectl: () => session.open(io.env),
    async progress({ quiet }) {
      const { createProgress } = await import("./progress.ts");
      const display = createProgress(io.stderr, { quiet, env: io.env });
      session.displays.push(display);
      return display;
    },
    reportFailure: (error) => reportFailure(error, session),
  };
}

/** Prints the error, clear of any progress line, and returns the exit status that it stands for. */
function reportFailure(thrown: unknown, session: Session): number {
  for (const display of session.displays) display.stop();
  const signal = session.interrupts.received();
  const error =
    signal !== undefined && isAbortError(thrown)
      ? new FirectlError("INTERRUPTED", `interrupted by ${signal}`, { cause: thrown })
      : thrown;
  const status = failureStatusOf(error, session);
  const debug = (session.io.env["FIRECTL_DEBUG"] ?? "") !== "";
  reportError(error, session.io.stderr, { json: session.json, debug, exitStatus: status });
  return status;
}

function failureStatusOf(error: unknown, session: Session): number {
  const signal = session.interrupts.received();
  if (signal !== undefined && error instanceof FirectlError && error.code === "INTERRUPTED") {
    return interruptedStatus(signal);
  }
  if (session.failureStatus === undefined) return exitStatusOf(error);
  // 126 and 127, as in docker, of a command that cannot be run.
  return workloadStartErrorIn(error)?.exitStatus ?? session.failureStatus;
}

/** The error itself or what caused it: an operation names the stage in which it failed. */
function workloadStartErrorIn(error: unknown): WorkloadStartError | undefined {
  let current = error;
  for (let depth = 0; depth < 5 && current instanceof Error; depth++) {
    if (current instanceof WorkloadStartError) return current;
    current = current.cause;
  }
  return undefined;
}

/** What Node throws when a signal aborts one of its own operations. */
function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

function unknownCommand(unknown: string, words: readonly string[]): FirectlError {
  const names = COMMANDS.filter(({ topic }) => topic !== undefined).flatMap((entry) => entry.names);
  const ofDocker = ownNameOf(words, names);
  const lacked = ofDocker === undefined ? lackedCommand(words) : undefined;
  if (lacked !== undefined) {
    return new FirectlError("UNSUPPORTED", `firectl has no command "${lacked.name}"`, {
      hint: lacked.instead,
    });
  }
  const shown = ofDocker === undefined ? unknown : words.slice(0, 2).join(" ");
  const like = ofDocker ?? closest(unknown, names);
  const guess = like === undefined ? "" : `, did you mean ${like}?`;
  const what = unknown.startsWith("-") ? "flag" : "command";
  return new FirectlError("INVALID_ARGUMENT", `unknown ${what} "${shown}"${guess}`, {
    hint: "firectl --help lists the commands",
  });
}

async function printHelp(words: readonly string[], session: Session): Promise<number> {
  const [help, { fitWidth }] = await Promise.all([import("./print-help.ts"), import("./fit-width.ts")]);
  const { stdout } = session.io;
  const text = await helpText(words, help);
  stdout.write(stdout.isTerminal ? fitWidth(text, stdout.columns) : text);
  return 0;
}

async function helpText(words: readonly string[], help: typeof import("./print-help.ts")): Promise<string> {
  if (words.length === 0) return help.mainHelpText();
  const resolved = resolveCommand(words);
  if (resolved.kind === "unknown") throw unknownCommand(resolved.words, words);
  return resolved.kind === "group" ? help.groupHelpText(resolved.name) : help.commandHelpText(resolved.entry);
}
