import { FirectlError } from "../core/errors.ts";
import type { FirectlOperations, OutputChunk, StartedVm, VmSummary } from "../manager/api.ts";
import type { CliIo, CliSignal, Sink } from "./io.ts";
import { OutputClosed } from "./io.ts";
import { runCli } from "./main.ts";

/** A sink that keeps what is written; `closed` makes it a pipe whose reader has gone. */
export class MemorySink implements Sink {
  readonly isTerminal: boolean;
  readonly columns: number;
  closed = false;
  #chunks: Buffer[] = [];

  constructor(options: { isTerminal?: boolean; columns?: number } = {}) {
    this.isTerminal = options.isTerminal ?? false;
    this.columns = options.columns ?? 80;
  }

  write(data: string | Uint8Array): void {
    if (this.closed) throw new OutputClosed("closed by the test");
    this.#chunks.push(Buffer.from(data));
  }

  async stream(data: Uint8Array): Promise<void> {
    this.write(data);
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString("utf8");
  }
}

export interface TestIo extends CliIo {
  readonly stdout: MemorySink;
  readonly stderr: MemorySink;
  /** Sends a signal to whoever listens. */
  send(signal: CliSignal): void;
  readonly listeners: Set<(signal: CliSignal) => void>;
  readonly exits: number[];
}

export interface TestIoOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: readonly string[];
  readonly stdinIsTerminal?: boolean;
  readonly stdoutIsTerminal?: boolean;
  readonly stderrIsTerminal?: boolean;
  /** What is typed where the command asks; without it stdin is no terminal. */
  readonly typed?: readonly string[];
}

export function testIo(options: TestIoOptions = {}): TestIo {
  const listeners = new Set<(signal: CliSignal) => void>();
  const exits: number[] = [];
  const typed = [...(options.typed ?? [])];
  const stderr = new MemorySink({ isTerminal: options.stderrIsTerminal ?? false });
  return {
    stdout: new MemorySink({ isTerminal: options.stdoutIsTerminal ?? false }),
    stderr,
    async prompt(question, { hidden }) {
      const line = typed.shift();
      if (line === undefined) throw new FirectlError("INVALID_ARGUMENT", "stdin is not a terminal");
      stderr.write(`${question}${hidden ? "" : line}\n`);
      return line;
    },
    stdin: (async function* () {
      for (const text of options.stdin ?? []) yield Buffer.from(text);
    })(),
    stdinIsTerminal: options.stdinIsTerminal ?? false,
    env: options.env ?? {},
    listeners,
    exits,
    terminalSize: () => (options.stdoutIsTerminal === true ? { rows: 24, columns: 80 } : undefined),
    onResize: () => () => {},
    makeRaw: async () => () => {},
    send(signal) {
      for (const listener of listeners) listener(signal);
    },
    onSignal(handler, { passedOn } = { passedOn: false }) {
      if (passedOn) return () => {};
      listeners.add(handler);
      return () => listeners.delete(handler);
    },
    onIdle: () => () => {},
    exitNow(status) {
      exits.push(status);
    },
    async close() {},
  };
}

export interface CliResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs one command line in process. `operations` are those that the command is expected to call; any other
 * fails the test.
 */
export async function firectl(
  argv: readonly string[],
  options: TestIoOptions & { operations?: Partial<FirectlOperations>; io?: TestIo } = {},
): Promise<CliResult> {
  const io = options.io ?? testIo(options);
  const status = await runCli(argv, io, { open: async () => onlyThese(options.operations ?? {}) });
  return { status, stdout: io.stdout.text, stderr: io.stderr.text };
}

function onlyThese(operations: Partial<FirectlOperations>): FirectlOperations {
  return new Proxy(operations, {
    get(target, name, receiver) {
      // A promise asks whatever it resolves to whether it is one, too.
      if (name === "then" || name in target) return Reflect.get(target, name, receiver);
      throw new Error(`the command called ${String(name)}, which this test does not expect`);
    },
    // Every operation that is missing throws when it is asked for.
  }) as FirectlOperations;
}

/** A started VM whose workload writes `output` and ends with `exitCode`, or when `ended` says so. */
export function startedVm(options: {
  output?: readonly (readonly [OutputChunk["stream"], string])[];
  exitCode?: number;
  error?: string;
  oomKilled?: boolean;
  tty?: boolean;
  openStdin?: boolean;
  ended?: Promise<void>;
  events?: string[];
}): StartedVm {
  const events = options.events ?? [];
  const ended = options.ended ?? Promise.resolve();
  return {
    // A valid id, which is all that the brand says.
    id: "3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f" as StartedVm["id"],
    name: "brisk_heron",
    vmm: "qemu",
    timings: () => ({ loadMs: 40, prepareMs: 120, vmmMs: 30.4, kernelMs: 900, initMs: 49.6, totalMs: 1250 }),
    async *output() {
      for (const [stream, text] of options.output ?? []) yield { stream, data: Buffer.from(text) };
      await ended;
    },
    exit: ended.then(() => ({
      exitCode: options.exitCode ?? 0,
      oomKilled: options.oomKilled ?? false,
      ...(options.error === undefined ? {} : { error: options.error }),
    })),
    tty: options.tty ?? false,
    openStdin: options.openStdin ?? false,
    async sendInput(source) {
      for await (const chunk of source) events.push(`input ${chunk}`);
      events.push("input ended");
    },
    async resize({ rows, columns }) {
      events.push(`size ${columns}x${rows}`);
    },
    async detach() {
      events.push("detached");
    },
    async signal(signal) {
      events.push(`signal ${signal}`);
    },
    async [Symbol.asyncDispose]() {
      events.push("disposed");
    },
  };
}

/** A VM for lists. */
export function vmSummary(fields: Partial<Omit<VmSummary, "id">> & { id?: string } = {}): VmSummary {
  const { id = "3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f", ...rest } = fields;
  const minutesAgo = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();
  return {
    // Tests give valid ids.
    id: id as VmSummary["id"],
    name: "web",
    imageName: "nginx:latest",
    command: ["nginx", "-g", "daemon off;"],
    createdAt: minutesAgo(5),
    startedAt: minutesAgo(5),
    finishedAt: null,
    state: "running",
    health: "none",
    exitCode: null,
    vmm: "firecracker",
    pid: 4242,
    cpus: 1,
    memoryMib: 512,
    labels: {},
    ports: [],
    ...rest,
  };
}
