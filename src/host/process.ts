import { spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import { redactForeign } from "../core/redact.ts";

/** The end of a program's stderr that an error quotes. */
const STDERR_TAIL_BYTES = 4096;

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

/**
 * Runs a program to its end and returns its stdout. No shell.
 * @throws FirectlError TOOL_MISSING when it is not found, PROCESS_FAILED with the tail of its stderr when it
 *   fails.
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  // execa is loaded here and not at the head: `list` and `--version` never need it.
  const { execa } = await import("execa");
  try {
    const result = await execa(file, args, {
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
      ...(options.env === undefined ? {} : { env: options.env, extendEnv: false }),
      ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    return result.stdout;
  } catch (error) {
    options.signal?.throwIfAborted();
    throw programError(file, args, error);
  }
}

/** A program whose stdout is read as a stream. */
export interface StreamingProgram {
  readonly stdout: Readable;
  readonly stdin: Writable | undefined;
  /** Settles when the program has ended: rejects as {@link runProgram} does. */
  readonly finished: Promise<void>;
  /** The end of what it has written to its stderr. */
  messages(): string;
}

/**
 * Starts a program and hands out its stdout while it runs; aborting `signal` ends it.
 * Its standard input is a pipe of ours or a file of the caller's, nothing unless asked for.
 */
export function streamProgram(
  file: string,
  args: readonly string[],
  options: {
    signal?: AbortSignal | undefined;
    env?: NodeJS.ProcessEnv;
    stdin?: "pipe" | number;
    /** Gets the end of what it has written to its stderr, each time that it writes. */
    onMessages?: (tail: string) => void;
  } = {},
): StreamingProgram {
  const child = spawn(file, args, {
    stdio: [options.stdin ?? "ignore", "pipe", "pipe"],
    env: options.env ?? process.env,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  let tail = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    tail = (tail + text).slice(-STDERR_TAIL_BYTES);
    options.onMessages?.(tail);
  });
  const finished = new Promise<void>((resolve, reject) => {
    child.once("error", (error) =>
      reject(options.signal?.aborted === true ? options.signal.reason : programError(file, args, error)),
    );
    child.once("close", (code, signalName) => {
      if (code === 0) resolve();
      else
        reject(
          new FirectlError(
            "PROCESS_FAILED",
            `${file} ended with ${signalName ?? `status ${code}`}: ${redactForeign(tail.trim(), args)}`,
          ),
        );
    });
  });
  finished.catch(() => {});
  if (child.stdout === null) throw new Error("stdout was asked for as a pipe");
  return { stdout: child.stdout, stdin: child.stdin ?? undefined, finished, messages: () => tail };
}

/**
 * Starts a program in a session of its own, with nothing of ours open but the given descriptors; it outlives
 * us. Returns its pid.
 * @throws FirectlError TOOL_MISSING, PROCESS_FAILED when it cannot be started at all.
 */
export function spawnDetached(
  file: string,
  args: readonly string[],
  options: { stdout: number | "ignore"; stderr: number | "ignore"; env?: NodeJS.ProcessEnv; cwd?: string },
): Promise<number> {
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", options.stdout, options.stderr],
    env: options.env ?? process.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  return new Promise((resolve, reject) => {
    child.once("error", (error) => reject(programError(file, args, error)));
    child.once("spawn", () => {
      child.unref();
      if (child.pid === undefined) reject(new Error("a spawned process has a pid"));
      else resolve(child.pid);
    });
  });
}

/**
 * Starts a helper that lives no longer than we do and keeps `fd` open as its descriptor 3.
 * Used for flock(1): the lock belongs to the open file description and ends with us, however we end.
 * Resolves with its exit status; aborting `signal` ends it and rejects with the reason.
 */
export function runWithDescriptor(
  file: string,
  args: readonly string[],
  fd: number,
  signal?: AbortSignal,
): Promise<number> {
  const child = spawn(file, args, {
    stdio: ["ignore", "ignore", "ignore", fd],
    ...(signal === undefined ? {} : { signal }),
  });
  return new Promise((resolve, reject) => {
    child.once("error", (error) =>
      reject(signal?.aborted === true ? signal.reason : programError(file, args, error)),
    );
    child.once("close", (code) => resolve(code ?? 128));
  });
}

function programError(file: string, args: readonly string[], error: unknown): FirectlError {
  if (errnoOf(error) === "ENOENT") {
    return new FirectlError("TOOL_MISSING", `${file} is not installed`, {
      hint: `install ${file} or put it on PATH`,
      cause: error,
    });
  }
  const stderr = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
  const message =
    error instanceof Error && "shortMessage" in error ? String(error.shortMessage) : messageOf(error);
  const tail = redactForeign(stderr.slice(-STDERR_TAIL_BYTES), args);
  return new FirectlError("PROCESS_FAILED", tail === "" ? message : `${message}: ${tail}`, { cause: error });
}
