import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";

const ROOT = path.resolve(import.meta.dirname, "../../..");
/** The command as built in this checkout. */
export const BIN: string = path.join(ROOT, "bin/firectl");
/**
 * FIRECTL_E2E_KERNEL: what guests boot, a file or directory that `firectl kernel add` takes, for instance the one
 * that `make kernel` prints. Without it, the distribution's kernel.
 */
export const KERNEL: string | undefined = process.env["FIRECTL_E2E_KERNEL"] || undefined;
/** Made once for each kernel by the global set-up and shared by all suites: kernels, initramfs, KVM's answer. */
export const SHARED_DATA: string = path.join(
  ROOT,
  ".cache/e2e",
  KERNEL === undefined ? "data" : dataOf(KERNEL),
);
export const IMAGES: string = path.join(ROOT, ".cache/images");

/** Told apart by what the kernel is, so that one that was built anew is not taken for the old one. */
function dataOf(kernel: string): string {
  const manifest = path.join(kernel, "manifest.json");
  const file = existsSync(manifest) ? manifest : kernel;
  return `data-${createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 12)}`;
}

export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status, 128 + n for a signal. */
  readonly status: number;
}

export interface Running {
  readonly pid: number;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly finished: Promise<Finished>;
  kill(signal: NodeJS.Signals): void;
}

export interface CallOptions {
  readonly stdin?: string | Uint8Array;
  readonly env?: NodeJS.ProcessEnv;
}

/** What to put before firectl: a command that runs the rest of its words. */
export type Within = readonly string[];

/** One user's firectl: configuration, data and run-time directory of its own, kernels shared. */
export class Sandbox implements AsyncDisposable {
  readonly directory: string;
  readonly env: NodeJS.ProcessEnv;
  readonly #within: Within;

  private constructor(directory: string, env: NodeJS.ProcessEnv, within: Within) {
    this.directory = directory;
    this.#within = within;
    this.env = { ...process.env, ...directoriesIn(directory), ...env };
    // It costs every start of Node a tenth of a second under emulation, and nothing here speaks TLS.
    delete this.env["NODE_EXTRA_CA_CERTS"];
  }

  static async create(env: NodeJS.ProcessEnv = {}, within: Within = []): Promise<Sandbox> {
    // Short: unix sockets lie below it.
    const directory = await mkdtemp(path.join(os.tmpdir(), "fc-"));
    const sandbox = new Sandbox(directory, env, within);
    await mkdir(sandbox.data, { recursive: true });
    for (const shared of ["kernels", "initramfs"]) {
      await mkdir(path.join(SHARED_DATA, shared), { recursive: true });
      await symlink(path.join(SHARED_DATA, shared), path.join(sandbox.data, shared));
    }
    return sandbox;
  }

  get data(): string {
    return path.join(this.directory, "data");
  }

  get runtime(): string {
    return path.join(this.directory, "run");
  }

  get stateFile(): string {
    return path.join(this.directory, "config/vms.json");
  }

  /** Starts firectl and leaves it running. */
  start(args: readonly string[], options: CallOptions = {}): Running {
    const [program = BIN, ...words] = [...this.#within, BIN, ...args];
    const child = spawn(program, words, {
      env: { ...this.env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdin.on("error", () => {});
    child.stdin.end(options.stdin ?? "");
    const finished = new Promise<Finished>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        resolve({
          stdout,
          stderr,
          status: code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]),
        });
      });
    });
    if (child.pid === undefined) throw new Error("firectl could not be started");
    return {
      pid: child.pid,
      stdout: () => stdout,
      stderr: () => stderr,
      finished,
      kill: (signal) => child.kill(signal),
    };
  }

  /** Runs firectl to its end, whatever its status. */
  call(args: readonly string[], options: CallOptions = {}): Promise<Finished> {
    return this.start(args, options).finished;
  }

  /** Runs firectl, expects it to succeed, and returns its stdout. */
  async ok(args: readonly string[], options: CallOptions = {}): Promise<string> {
    const finished = await this.call(args, options);
    expect(finished, `firectl ${args.join(" ")}: ${finished.stderr}`).toMatchObject({ status: 0 });
    return finished.stdout;
  }

  /** Writes `config.json`. */
  async configure(settings: Readonly<Record<string, unknown>>): Promise<void> {
    await mkdir(path.dirname(this.stateFile), { recursive: true });
    await writeFile(path.join(path.dirname(this.stateFile), "config.json"), JSON.stringify(settings));
  }

  /** Records as they stand in vms.json. */
  records(): ReadonlyArray<Record<string, unknown>> {
    return existsSync(this.stateFile) ? JSON.parse(readFileSync(this.stateFile, "utf8")) : [];
  }

  /** Everything on the host that belongs to a VM: files, sockets, processes, records, mounts, loop devices. */
  remains(): readonly string[] {
    const below = (directory: string): string[] =>
      existsSync(directory) ? readdirSync(directory).map((name) => path.join(directory, name)) : [];
    return [
      ...below(path.join(this.data, "vms")),
      ...below(path.join(this.data, "rootfs")),
      ...below(path.join(this.data, "base")).filter((file) => file.endsWith(".tmp")),
      // What has come of a layer stays for a day: the next pull goes on from there.
      ...below(path.join(this.data, "images/ingest")).filter((file) => !file.endsWith(".partial")),
      ...below(this.runtime).filter((file) => !/\.(lock|json)$/.test(file)),
      ...this.records().map((record) => `record ${record["id"]}`),
      ...processesNaming(this.directory),
      ...readFileSync("/proc/self/mounts", "utf8")
        .split("\n")
        .filter((line) => line.includes(this.directory)),
      ...loopDevicesOver(this.directory),
    ];
  }

  /** Expects that nothing of any VM is left, giving processes that are ending a moment to be gone. */
  async expectNothingLeft(): Promise<void> {
    for (let attempt = 0; attempt < 200 && this.remains().length > 0; attempt++) await sleep(50);
    expect(this.remains()).toEqual([]);
  }

  /** Expects that nothing of any VM is left; what is left all the same does not outlive the test. */
  async closeEmpty(): Promise<void> {
    try {
      await this.expectNothingLeft();
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const line of processesNaming(this.directory)) process.kill(Number(line.split(" ")[1]), "SIGKILL");
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

function directoriesIn(directory: string): NodeJS.ProcessEnv {
  return {
    FIRECTL_CONFIG_DIR: path.join(directory, "config"),
    FIRECTL_DATA_DIR: path.join(directory, "data"),
    FIRECTL_RUNTIME_DIR: path.join(directory, "run"),
  };
}

/** `pid N command…` of every living process with `text` in its arguments or environment, ourselves excepted. */
function processesNaming(text: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      const environment = readFileSync(`/proc/${name}/environ`, "utf8");
      const state = readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.[0];
      if (state !== "Z" && (command.includes(text) || environment.includes(text)))
        found.push(`pid ${name} ${command}`);
    } catch {
      // It has ended while we looked.
    }
  }
  return found;
}

function loopDevicesOver(directory: string): string[] {
  const base = "/sys/block";
  if (!existsSync(base)) return [];
  return readdirSync(base)
    .filter((name) => name.startsWith("loop"))
    .map((name) => path.join(base, name, "loop/backing_file"))
    .filter((file) => existsSync(file) && readFileSync(file, "utf8").includes(directory));
}
