import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { expect } from "vitest";
import { findOnPath } from "./backends.ts";

const HELPER = path.join(import.meta.dirname, "pty.py");
/** Guests boot in seconds, and more slowly on a busy machine. */
const PATIENCE = { timeout: 120_000, interval: 20 };

/** Python, whose standard library has what a terminal emulator needs; tests that use it skip without. */
export const PYTHON: string | undefined = findOnPath("python3");

/** What a terminal that edits lines, echoes and makes signals of keys has set. */
export const COOKED: readonly string[] = ["echo", "icanon", "icrnl", "iexten", "isig", "ixon", "opost"];

/** A program on a pseudo-terminal, with us at the keyboard and the screen. */
export class PseudoTerminal implements AsyncDisposable {
  readonly exit: Promise<number>;
  /** Of the program. */
  pid = 0;
  readonly #helper: ChildProcess;
  #screen = "";
  #modes: readonly string[] | undefined;

  constructor(argv: readonly string[], options: { env: NodeJS.ProcessEnv; rows?: number; columns?: number }) {
    const { rows = 24, columns = 80 } = options;
    this.#helper = spawn(PYTHON ?? "python3", [HELPER, String(rows), String(columns), ...argv], {
      env: { ...options.env, TERM: "xterm" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.exit = new Promise((resolve, reject) => {
      this.#helper.once("error", reject);
      if (this.#helper.stdout === null) throw new Error("stdout was asked for as a pipe");
      createInterface({ input: this.#helper.stdout }).on("line", (line) => {
        const event: { pid?: number; output?: string; modes?: string[]; exit?: number } = JSON.parse(line);
        if (event.pid !== undefined) this.pid = event.pid;
        if (event.output !== undefined)
          this.#screen += Buffer.from(event.output, "base64").toString("latin1");
        if (event.modes !== undefined) this.#modes = event.modes;
        if (event.exit !== undefined) resolve(event.exit < 0 ? 128 - event.exit : event.exit);
      });
    });
  }

  /** Everything that the program has written so far, a character a byte. */
  get screen(): string {
    return this.#screen;
  }

  /** Types text; each character is a byte. */
  type(text: string): void {
    this.#tell({ write: Buffer.from(text, "latin1").toString("base64") });
  }

  resize(rows: number, columns: number): void {
    this.#tell({ resize: [rows, columns] });
  }

  /** Takes the terminal away, as closing its window does. */
  hangUp(): void {
    this.#tell({ hangup: true });
  }

  /** What is set of the terminal's modes. */
  async modes(): Promise<readonly string[]> {
    this.#modes = undefined;
    this.#tell({ modes: true });
    await expect.poll(() => this.#modes, PATIENCE).toBeDefined();
    return this.#modes ?? [];
  }

  /** The modes at the program's end, which settles `exit`. */
  get lastModes(): readonly string[] | undefined {
    return this.#modes;
  }

  /** Waits until `text` is written behind `from`; returns where it ends. */
  async until(text: string | RegExp, from = 0): Promise<number> {
    const shown = (): string => this.#screen.slice(from);
    if (typeof text === "string") await expect.poll(shown, PATIENCE).toContain(text);
    else await expect.poll(shown, PATIENCE).toMatch(text);
    const rest = this.#screen.slice(from);
    const match = typeof text === "string" ? undefined : text.exec(rest);
    const end =
      typeof text === "string"
        ? rest.indexOf(text) + text.length
        : (match?.index ?? 0) + (match?.[0].length ?? 0);
    return from + end;
  }

  #tell(command: Record<string, unknown>): void {
    this.#helper.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#helper.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#helper.once("exit", resolve));
    this.#helper.kill("SIGKILL");
    await ended;
  }
}
