import { closeSync, lstatSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { redactForeign } from "../core/redact.ts";
import { mark } from "../core/trace.ts";
import { pollUntil } from "./deadline.ts";
import { ioError } from "./files.ts";
import { spawnDetached } from "./process.ts";
import {
  identifyProcess,
  isAlive,
  type ProcessIdentity,
  parseProcessStat,
  signalProcess,
} from "./process-identity.ts";
import { SUPERVISOR_SCRIPT } from "./supervisor-script.ts";
import { watchUntil } from "./watch-directory.ts";

/** A process that a VMM needs beside it; the VMM is started once something listens on `socketPath`. */
export interface SideProcess {
  /** Letters and digits only: names its pid file. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly socketPath: string;
  /** The size beyond which it cannot write to the log, nor to any other file; absent where it writes others. */
  readonly logLimitBytes?: number | undefined;
}

export interface SuperviseOptions {
  /** Receives the pid files; must exist. */
  readonly runtimeDirectory: string;
  /** The VMM, in foreground mode. */
  readonly argv: readonly string[];
  /** What all of them have in their environment besides this process's own. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  readonly sideProcesses: readonly SideProcess[];
  /**
   * Receives stdout and stderr of all of them, except what `console` takes; removed before the start and when it
   * fails.
   */
  readonly logPath: string;
  /** The guest's console; removed before the start and when it fails. */
  readonly console: {
    readonly path: string;
    /**
     * Whether it is what the VMM writes to stdout. Both that and what it writes to stderr go through pipes then,
     * of which each takes `limitBytes`; the rest goes nowhere.
     */
    readonly pipe: boolean;
    readonly limitBytes: number;
  };
  /** Processes that the VMM's program leaves beside it, by the names of the pid files that it notes them in. */
  readonly companions?: readonly string[] | undefined;
  /** Run in place of the supervisor once the VMM has ended; nothing is run when it is empty. */
  readonly afterExit: readonly string[];
  /** The sockets that the processes make: stale ones are removed before the start, all when it fails. */
  readonly sockets: readonly string[];
  /** Done while the VMM comes up; {@link ready} is asked for afterwards. Its failure is the start's failure. */
  readonly meanwhile?: (() => Promise<void>) | undefined;
  /** Resolves once the VMM does what it was started for; its failure is the start's failure. */
  readonly ready: (vmm: ProcessIdentity) => Promise<void>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What {@link superviseDetached} has started. */
export interface Supervised {
  readonly process: ProcessIdentity;
  /** The supervising shell first, then side processes, what the VMM's program left, and the console's reader. */
  readonly companions: readonly ProcessIdentity[];
}

/** Environment variable of every supervised process: its value is the VM's runtime directory. */
const MARK = "FIRECTL_SUPERVISED";

/** Pid files in a runtime directory; each holds the process's line of /proc/PID/stat. */
const SUPERVISOR_PID = "supervisor.pid";
const VMM_PID = "vmm.pid";
const CONSOLE_PID = "console.pid";

/**
 * Starts a VMM and its side processes under one POSIX shell in a session of its own, which waits for the VMM,
 * ends the side processes after it and becomes `afterExit`. Returns once the VMM runs and is `ready`.
 * @throws FirectlError VMM_FAILED with the end of the log, TIMEOUT, what `ready` throws; no process and no
 *   file is left then.
 */
export async function superviseDetached(options: SuperviseOptions): Promise<Supervised> {
  for (const socketPath of options.sockets) checkSocketPath(socketPath);
  removeLeftovers(options);
  for (const file of [options.logPath, options.console.path]) removeIfPresent(file);
  try {
    const vmm = await startUnderShell(options);
    mark("vmm process");
    await options.ready(vmm);
    return { process: vmm, companions: companionsOf(options) };
  } catch (error) {
    await logIsWhole(options.runtimeDirectory);
    await killSupervised(options.runtimeDirectory);
    const told = await withLogTail(error, options.logPath);
    removeLeftovers(options);
    for (const file of [options.logPath, options.console.path]) removeIfPresent(file);
    throw told;
  }
}

/** The sockets that side processes make. */
export function socketsOf(processes: readonly SideProcess[] = []): string[] {
  return processes.map(({ socketPath }) => socketPath);
}

async function startUnderShell(options: SuperviseOptions): Promise<ProcessIdentity> {
  const { runtimeDirectory } = options;
  mark("launching");
  const supervisor = identifyProcess(await startShell(options));
  mark("shell spawned");
  await options.meanwhile?.();
  return watchUntil(
    {
      directory: runtimeDirectory,
      timeoutMs: options.timeoutMs,
      waitingFor: `${path.basename(options.argv[0] ?? "the VMM")} to start`,
      signal: options.signal,
    },
    () => {
      // In this order: a VMM that ends at once takes the supervisor with it, and its note is there all the same.
      const supervised = supervisor !== undefined && isAlive(supervisor);
      const noted = readPidFile(path.join(runtimeDirectory, VMM_PID));
      if (noted !== undefined || supervised) return noted;
      throw new FirectlError("VMM_FAILED", `${options.argv[0]} could not be started`);
    },
  );
}

function companionsOf({
  runtimeDirectory,
  sideProcesses,
  companions = [],
}: SuperviseOptions): ProcessIdentity[] {
  const named = [...sideProcesses.map(({ name }) => name), ...companions].map((name) => `${name}.pid`);
  const noted = [SUPERVISOR_PID, ...named, CONSOLE_PID].map((name) =>
    readPidFile(path.join(runtimeDirectory, name)),
  );
  return noted.filter((identity) => identity !== undefined);
}

function removeLeftovers(options: SuperviseOptions): void {
  removeSupervisionFiles(options.runtimeDirectory);
  for (const socketPath of options.sockets) removeSocket(socketPath);
}

/** Removes a socket and nothing else: the path may be the user's own. */
function removeSocket(socketPath: string): void {
  if (lstatSync(socketPath, { throwIfNoEntry: false })?.isSocket() === true) removeIfPresent(socketPath);
}

/** sun_path holds 108 bytes, the closing zero among them; unix(7). */
const MAX_SOCKET_PATH_BYTES = 107;

function checkSocketPath(socketPath: string): void {
  const length = Buffer.byteLength(socketPath);
  if (length <= MAX_SOCKET_PATH_BYTES) return;
  throw new FirectlError(
    "INVALID_CONFIGURATION",
    `the socket path ${socketPath} has ${length} bytes; ${MAX_SOCKET_PATH_BYTES} are the most`,
    { hint: "choose a shorter run-time directory" },
  );
}

function removeIfPresent(file: string): void {
  rmSync(file, { force: true });
}

/** The unit of `ulimit -f`, by POSIX. */
const FILE_LIMIT_BLOCK_BYTES = 512;

async function startShell(options: SuperviseOptions): Promise<number> {
  const parameters = [
    options.runtimeDirectory,
    options.console.pipe ? options.console.path : "",
    String(options.console.limitBytes),
    String(options.sideProcesses.length),
    ...options.sideProcesses.flatMap(({ name, socketPath, logLimitBytes, argv }) => [
      name,
      socketPath,
      logLimitBytes === undefined ? "" : String(Math.ceil(logLimitBytes / FILE_LIMIT_BLOCK_BYTES)),
      String(argv.length),
      ...argv,
    ]),
    String(options.argv.length),
    ...options.argv,
    ...options.afterExit,
  ];
  let log: number;
  try {
    log = openSync(options.logPath, "a", 0o600);
  } catch (error) {
    throw ioError(`cannot open ${options.logPath}`, error);
  }
  try {
    return await spawnDetached("/bin/sh", ["-c", SUPERVISOR_SCRIPT, "firectl-supervisor", ...parameters], {
      stdout: log,
      stderr: log,
      env: { ...process.env, ...options.environment, [MARK]: options.runtimeDirectory },
      cwd: "/",
    });
  } finally {
    closeSync(log);
  }
}

/**
 * Every living process that was started for the VM of this runtime directory, the supervisor first: found by
 * the pid files, and by the environment for those that had no time to be noted. Where `allNoted` says that there are
 * none of those, the environments of all processes of the host need not be looked through.
 */
export function findSupervised(
  runtimeDirectory: string,
  options: { readonly allNoted?: boolean } = {},
): ProcessIdentity[] {
  const found = new Map<number, ProcessIdentity>();
  const names = directoryNames(runtimeDirectory).filter((name) => name.endsWith(".pid"));
  names.sort((a, b) => Number(b === SUPERVISOR_PID) - Number(a === SUPERVISOR_PID));
  for (const name of names) {
    const identity = readPidFile(path.join(runtimeDirectory, name));
    if (identity !== undefined && isAlive(identity)) found.set(identity.pid, identity);
  }
  if (options.allNoted === true) return [...found.values()];
  for (const identity of markedProcesses(runtimeDirectory)) found.set(identity.pid, identity);
  return [...found.values()];
}

/** A killed process is gone once the kernel has freed its memory, and devices let go of it. */
const KILL_TIMEOUT_MS = 20_000;

/**
 * Kills what {@link findSupervised} finds, supervisor first so that it starts nothing more, until nothing is
 * found. The reconciling command that a supervisor becomes is spared when it is this process.
 * @throws FirectlError TIMEOUT when a process does not end.
 */
export async function killSupervised(
  runtimeDirectory: string,
  options: { readonly allNoted?: boolean } = {},
): Promise<void> {
  await pollUntil(
    { timeoutMs: KILL_TIMEOUT_MS, waitingFor: "the VM's killed processes to end", intervalMs: 1 },
    async () => {
      const living = findSupervised(runtimeDirectory, options).filter(({ pid }) => pid !== process.pid);
      for (const identity of living) signalProcess(identity, "SIGKILL");
      return living.length === 0 ? true : undefined;
    },
  );
}

/** Exit status of the VMM as the supervising shell saw it (128 + n for a signal), undefined while it runs. */
export function readVmmStatus(runtimeDirectory: string): number | undefined {
  const text = readIfPresent(path.join(runtimeDirectory, "vmm.status"));
  const match = text === undefined ? null : /^(\d{1,3})\n$/.exec(text);
  return match === null ? undefined : Number(match[1]);
}

/** From the VMM's end to the shell's note of its status: moments, and more on a busy host. */
const NOTE_TIMEOUT_MS = 10_000;

/**
 * What {@link readVmmStatus} says of a VMM that has ended, once it can be said: the shell notes it a moment later.
 * Undefined when `mayCome` says no before, or when that takes too long.
 */
export async function awaitVmmStatus(
  runtimeDirectory: string,
  mayCome: () => boolean,
): Promise<number | undefined> {
  for (const deadline = performance.now() + NOTE_TIMEOUT_MS; ; await sleep(1)) {
    // In this order: what is noted last is still read.
    const isLast = !mayCome() || performance.now() > deadline;
    const status = readVmmStatus(runtimeDirectory);
    if (status !== undefined || isLast) return status;
  }
}

/**
 * Resolves once the log has what a VMM that has ended has said: when the shell has noted its status, or can no
 * longer do so. At once while the VMM lives.
 */
export async function logIsWhole(runtimeDirectory: string): Promise<void> {
  const [vmm, supervisor] = [VMM_PID, SUPERVISOR_PID].map((name) =>
    readPidFile(path.join(runtimeDirectory, name)),
  );
  if (vmm === undefined || isAlive(vmm)) return;
  await awaitVmmStatus(runtimeDirectory, () => supervisor !== undefined && isAlive(supervisor));
}

/** Removes the files that supervision itself leaves in a runtime directory. */
function removeSupervisionFiles(runtimeDirectory: string): void {
  const names = directoryNames(runtimeDirectory).filter(
    (name) => name.endsWith(".pid") || ["vmm.status", "console.fifo", "log.fifo"].includes(name),
  );
  for (const name of names) removeIfPresent(path.join(runtimeDirectory, name));
}

/**
 * The end of a log file, at most `limitBytes`, to be quoted: without control characters and secrets; empty when there
 * is none.
 */
export async function readLogTail(logPath: string, limitBytes: number): Promise<string> {
  try {
    await using handle = await open(logPath, "r");
    const { size } = await handle.stat();
    const length = Math.min(size, limitBytes);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    const text = buffer.toString("utf8", 0, bytesRead).replaceAll(/[^\P{Cc}\n\t]/gu, "");
    return redactForeign(text.trim());
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "";
    throw ioError(`cannot read ${logPath}`, error);
  }
}

const QUOTED_LOG_BYTES = 2048;

/** `error`, its message followed by the end of the VMM's log; a cancellation stays as it is. */
async function withLogTail(error: unknown, logPath: string): Promise<unknown> {
  if (!(error instanceof FirectlError) || error.code === "INTERRUPTED") return error;
  const tail = await readLogTail(logPath, QUOTED_LOG_BYTES);
  if (tail === "") return error;
  return new FirectlError(error.code, `${error.message}; its last words:\n${tail}`, {
    cause: error.cause,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}

function directoryNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw ioError(`cannot read ${directory}`, error);
  }
}

/** The process noted in a pid file, or undefined when there is none or it is not written to its end. */
function readPidFile(file: string): ProcessIdentity | undefined {
  const text = readIfPresent(file);
  if (text === undefined || !text.endsWith("\n")) return undefined;
  const noted = parseProcessStat(text);
  return noted === undefined ? undefined : { pid: noted.pid, startTime: noted.startTime };
}

function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, "latin1");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot read ${file}`, error);
  }
}

function markedProcesses(runtimeDirectory: string): ProcessIdentity[] {
  const wanted = Buffer.from(`${MARK}=${runtimeDirectory}\0`);
  const marked: ProcessIdentity[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isSafeInteger(pid) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`).includes(wanted)) continue;
    } catch {
      // Ended meanwhile, or another user's: not ours.
      continue;
    }
    const identity = identifyProcess(pid);
    if (identity !== undefined) marked.push(identity);
  }
  return marked;
}
