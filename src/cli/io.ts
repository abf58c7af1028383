import { closeSync, fstatSync, writeSync } from "node:fs";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import type { TerminalSize } from "../manager/api.ts";

/** Thrown when the reader of our stdout has gone (`firectl list | head -1`): a clean end, not a failure. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Where results or messages go. */
export interface Sink {
  /** Writes all of it, in order, before anything written later. */
  write(data: string | Uint8Array): void;
  /** Writes a piece of a long stream; resolves when the next may follow. */
  stream(data: Uint8Array): Promise<void>;
  readonly isTerminal: boolean;
  /** Width of the terminal in characters. */
  readonly columns: number;
}

/** Signals that end a command, or go to a workload in our place. */
export type CliSignal = (typeof SIGNALS)[number] | (typeof PASSED_ON)[number];

/** Everything the command line touches of the process, so that tests can run it in process. */
export interface CliIo {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdinIsTerminal: boolean;
  readonly env: NodeJS.ProcessEnv;
  /**
   * Asks for a line on the terminal; `hidden` keeps it from being shown.
   * @throws FirectlError INVALID_ARGUMENT where stdin is no terminal, INTERRUPTED; the signal's reason.
   */
  prompt(question: string, options: { hidden: boolean; signal: AbortSignal }): Promise<string>;
  /** Size of the terminal that stdout is; undefined where it is none. */
  terminalSize(): TerminalSize | undefined;
  /** Calls `handler` whenever that may have changed; returns how to stop it. */
  onResize(handler: () => void): () => void;
  /** Hands on every key of the terminal that stdin is as it is typed; returns how to stop that. */
  makeRaw(): Promise<() => void>;
  /**
   * Calls `handler` for the signals that end a command, and with `passedOn` for others that are a workload's
   * business; returns how to stop that.
   */
  onSignal(handler: (signal: CliSignal) => void, options?: { passedOn: boolean }): () => void;
  /** Calls `handler` if nothing is left that the process could wait for; returns how to stop that. */
  onIdle(handler: () => void): () => void;
  /** Ends the process at once. */
  exitNow(status: number): void;
  /** Waits until everything written has left, and lets go of stdin, which would keep the process alive. */
  close(): Promise<void>;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const PASSED_ON = ["SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/**
 * When it ends, Node sets terminals back to what they were, and aborts when one has gone meanwhile. What is closed it
 * leaves alone.
 */
function closeTerminalsAtExit(): void {
  process.once("exit", () => {
    for (const descriptor of [0, 1, 2]) {
      try {
        if (fstatSync(descriptor).isCharacterDevice()) closeSync(descriptor);
      } catch {
        // It was not open.
      }
    }
  });
}

/** The io of the real process. Nothing of it is loaded before it is used: net and tty cost milliseconds. */
export function processIo(): CliIo {
  let stdinOpened = false;
  const stdout = new ProcessSink("stdout", 1);
  const stderr = new ProcessSink("stderr", 2);
  return {
    stdout,
    stderr,
    get stdin(): AsyncIterable<Uint8Array> {
      stdinOpened = true;
      const { stdin } = process;
      // Whoever stops reading would destroy it, and a terminal could not be set back to its mode any more.
      return stdin.isTTY ? stdin.iterator({ destroyOnReturn: false }) : stdin;
    },
    get stdinIsTerminal(): boolean {
      if (!fstatSync(0).isCharacterDevice()) return false;
      stdinOpened = true;
      return process.stdin.isTTY;
    },
    env: process.env,
    async prompt(question, options) {
      stdinOpened = true;
      const terminal = process.stdin;
      if (!terminal.isTTY) throw noTerminal(question);
      const { readLine } = await import("./prompt.ts");
      try {
        return await readLine(terminal, { ...options, ask: () => stderr.write(question) });
      } finally {
        // What was typed did not move the cursor.
        if (options.hidden) stderr.write("\n");
      }
    },
    terminalSize() {
      const { stdout: out } = process;
      if (!stdout.isTerminal || !out.isTTY) return undefined;
      const [columns, rows] = out.getWindowSize();
      // A terminal that nobody has given a size has none to pass on.
      return rows === 0 || columns === 0 ? undefined : { rows, columns };
    },
    onResize(handler) {
      if (!stdout.isTerminal) return () => {};
      // It renews what it knows of its size before it says so.
      process.stdout.on("resize", handler);
      return () => process.stdout.off("resize", handler);
    },
    async makeRaw() {
      const { makeRaw } = await import("./raw-mode.ts");
      stdinOpened = true;
      return makeRaw(process.stdin);
    },
    onSignal(handler, { passedOn } = { passedOn: false }) {
      const listeners = (passedOn ? PASSED_ON : SIGNALS).map((signal) => ({
        signal,
        listener: () => handler(signal),
      }));
      for (const { signal, listener } of listeners) process.on(signal, listener);
      if (!passedOn) process.once("SIGHUP", closeTerminalsAtExit);
      return () => {
        for (const { signal, listener } of listeners) process.off(signal, listener);
        if (!passedOn) process.off("SIGHUP", closeTerminalsAtExit);
      };
    },
    onIdle(handler) {
      process.once("beforeExit", handler);
      return () => process.off("beforeExit", handler);
    },
    exitNow(status) {
      process.exit(status);
    },
    async close() {
      if (stdinOpened) process.stdin.destroy();
      await Promise.all([stdout.flush(), stderr.flush()]);
    },
  };
}

function noTerminal(question: string): FirectlError {
  return new FirectlError(
    "INVALID_ARGUMENT",
    `cannot ask for "${question.trim()}": stdin is not a terminal`,
    {
      hint: "give the user with -u and the password with --password-stdin",
    },
  );
}

class ProcessSink implements Sink {
  readonly #name: "stdout" | "stderr";
  readonly #descriptor: number;
  #opened: NodeJS.WriteStream | undefined;
  #failure: unknown;

  constructor(name: "stdout" | "stderr", descriptor: number) {
    this.#name = name;
    this.#descriptor = descriptor;
  }

  write(data: string | Uint8Array): void {
    let rest: Uint8Array = typeof data === "string" ? Buffer.from(data) : data;
    if (this.#opened === undefined) rest = this.#writeDirectly(rest);
    if (rest.length > 0) this.#stream().write(rest);
  }

  async stream(data: Uint8Array): Promise<void> {
    const stream = this.#stream();
    if (this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        stream.write(data, (error) => {
          this.#failure ??= error ?? undefined;
          resolve();
        });
      });
    }
    if (this.#failure !== undefined) this.#reject(this.#failure);
  }

  /** Resolves once everything written has left, or cannot. */
  async flush(): Promise<void> {
    if (this.#opened !== undefined) await this.stream(new Uint8Array()).catch(() => {});
  }

  get isTerminal(): boolean {
    try {
      return fstatSync(this.#descriptor).isCharacterDevice() && this.#stream().isTTY === true;
    } catch {
      return false;
    }
  }

  get columns(): number {
    return this.#stream().columns ?? 80;
  }

  /** Writes what the descriptor takes now and returns the rest: it may be a non-blocking pipe that is full. */
  #writeDirectly(data: Uint8Array): Uint8Array {
    let rest = data;
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(this.#descriptor, rest));
    } catch (error) {
      if (errnoOf(error) === "EAGAIN") return rest;
      this.#reject(error);
      return new Uint8Array();
    }
    return rest;
  }

  #stream(): NodeJS.WriteStream {
    if (this.#opened === undefined) {
      this.#opened = process[this.#name];
      // Each write reports its own error; without a listener the same error would end the process.
      this.#opened.on("error", (error) => {
        this.#failure ??= error;
      });
    }
    return this.#opened;
  }

  /** Messages that cannot be delivered are dropped: there is nobody left to tell. A result is not. */
  #reject(error: unknown): void {
    if (this.#name === "stderr") return;
    if (errnoOf(error) === "EPIPE") throw new OutputClosed("nobody reads our output any more");
    const code = errnoOf(error) === "ENOSPC" ? "NO_SPACE" : "IO_FAILED";
    throw new FirectlError(code, `cannot write to ${this.#name}: ${messageOf(error)}`, { cause: error });
  }
}
