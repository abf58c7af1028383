import { existsSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { mark } from "../core/trace.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";
import { socketsOf, superviseDetached } from "../host/supervise.ts";
import { watchUntil } from "../host/watch-directory.ts";
import { launchedBy } from "../vmm/network-launcher.ts";
import type { LaunchOptions, RunningVmm } from "../vmm/vmm.ts";
import { FirecrackerApi } from "./api/client.ts";
import type { ConfigurationCall, RawCall } from "./api/types.ts";
import type { BootSnapshot } from "./boot-snapshot.ts";
import { boundedConsole, CONSOLE_LIMIT_BYTES, TAP_NAME } from "./configuration.ts";
import { canBoundConsole, type FirecrackerVersion } from "./version.ts";

/** A Firecracker binary and what it is. */
export interface FirecrackerProgram {
  /** Absolute path. */
  readonly executable: string;
  readonly version: FirecrackerVersion;
}

export interface FirecrackerMachine {
  readonly calls: ReadonlyArray<ConfigurationCall | RawCall>;
  /** Sockets besides the API's that Firecracker will make. */
  readonly sockets: readonly string[];
  /** How the guest may be spared its boot; it boots when absent. */
  readonly boot?: BootPlan | undefined;
}

/** What it takes for guests to go on from each other's snapshots. */
export interface BootPlan {
  /** By the names that the calls have for them, in the runtime directory. */
  readonly links: readonly { readonly name: string; readonly path: string }[];
  /** Where the guest says that it is ready for its snapshot. */
  readonly readySocketPath: string;
  /** Asked for when all files of the machine are there. */
  readonly snapshot: () => BootSnapshot;
}

/** Milliseconds on real hardware; nested machines are slower by a factor of twenty. */
const START_TIMEOUT_MS = 30_000;

/**
 * For the stacks of Firecracker's threads, whose default is 2 MiB: where the host gives huge pages to whoever asks for
 * so much (`transparent_hugepage/enabled` is `always` on Debian), each stack was one, and two of them a third of an
 * idle VM's own memory. Of a stack less than 50 KiB are used.
 */
const ENVIRONMENT = { RUST_MIN_STACK: String(1024 * 1024) };

/** A Firecracker that answers, and what its guest is made of. */
interface Answering {
  readonly api: FirecrackerApi;
  readonly firecracker: ProcessIdentity;
  readonly calls: FirecrackerMachine["calls"];
  readonly options: LaunchOptions;
}

type StartOfGuest = (answering: Answering) => Promise<void>;

/**
 * Starts Firecracker, configures it over its API and starts the guest, or lets it go on from a snapshot.
 * @throws FirectlError as {@link Vmm.launch}.
 */
export async function launchFirecracker(
  program: FirecrackerProgram,
  machine: FirecrackerMachine,
  options: LaunchOptions,
): Promise<RunningVmm> {
  const { boot } = machine;
  if (boot === undefined) return supervise(program, { machine, plan: () => bootGuest }, options);
  let restoring: BootSnapshot | undefined;
  const plan = (): StartOfGuest => {
    linkFiles(boot, options.runtimeDirectory);
    const snapshot = boot.snapshot();
    if (!snapshot.exists()) return (answering) => bootAndKeep(answering, { boot, snapshot });
    restoring = snapshot;
    return (answering) => restoreGuest(answering, snapshot);
  };
  try {
    const running = await supervise(program, { machine, plan }, options);
    return restoring === undefined ? running : { ...running, bootSnapshot: restoring };
  } catch (error) {
    unlinkFiles(boot, options.runtimeDirectory);
    if (restoring === undefined || !isVmmFailure(error)) throw error;
    // Firecracker may know better than we what it cannot go on from.
    restoring.discard();
    return launchFirecracker(program, machine, { ...options, meanwhile: undefined });
  }
}

function isVmmFailure(error: unknown): boolean {
  return error instanceof FirectlError && ["VMM_FAILED", "VMM_REFUSED", "TIMEOUT"].includes(error.code);
}

function linkFiles({ links }: BootPlan, runtimeDirectory: string): void {
  for (const { name, path: target } of links) {
    rmSync(path.join(runtimeDirectory, name), { force: true });
    symlinkSync(target, path.join(runtimeDirectory, name));
  }
}

function unlinkFiles({ links }: BootPlan, runtimeDirectory: string): void {
  for (const { name } of links) rmSync(path.join(runtimeDirectory, name), { force: true });
}

async function supervise(
  program: FirecrackerProgram,
  guest: {
    readonly machine: FirecrackerMachine;
    /** Asked once the machine's files are there, and while Firecracker comes up: what to do when it answers. */
    readonly plan: () => StartOfGuest;
  },
  options: LaunchOptions,
): Promise<RunningVmm> {
  const apiSocketPath = path.join(options.runtimeDirectory, "api.sock");
  const plan = consolePlan(program.version, guest.machine, options);
  const supervised = await superviseDetached({
    runtimeDirectory: options.runtimeDirectory,
    ...launchedBy(options.networkLauncher, {
      argv: [program.executable, "--api-sock", apiSocketPath, "--level", "Error", ...plan.arguments],
      end: { tap: TAP_NAME },
      runtimeDirectory: options.runtimeDirectory,
    }),
    environment: ENVIRONMENT,
    sideProcesses: options.sideProcesses ?? [],
    logPath: options.logPath,
    console: plan.console,
    afterExit: options.afterExit,
    meanwhile: options.meanwhile,
    sockets: [apiSocketPath, ...guest.machine.sockets, ...socketsOf(options.sideProcesses)],
    ready: async (firecracker) => {
      using api = new FirecrackerApi(apiSocketPath, { timeoutMs: START_TIMEOUT_MS, signal: options.signal });
      const start = guest.plan();
      await waitForApi(api, { ...options, apiSocketPath, firecracker, executable: program.executable });
      await start({ api, firecracker, calls: plan.calls, options });
    },
    timeoutMs: START_TIMEOUT_MS,
    signal: options.signal,
  });
  return { ...supervised, apiSocketPath };
}

interface ConsolePlan {
  readonly arguments: readonly string[];
  readonly console: { readonly path: string; readonly limitBytes: number; readonly pipe: boolean };
  readonly calls: FirecrackerMachine["calls"];
}

/** Newer versions bound the console themselves; the stdout of older ones goes through a bounded pipe. */
function consolePlan(
  version: FirecrackerVersion,
  machine: FirecrackerMachine,
  options: LaunchOptions,
): ConsolePlan {
  const console = { path: options.consolePath, limitBytes: CONSOLE_LIMIT_BYTES };
  const own = machine.calls.some(({ path: endpoint }) => endpoint === "/serial");
  if (own || canBoundConsole(version)) {
    const serial = { path: "/serial", body: boundedConsole(options.consolePath) } as const;
    return {
      arguments: [],
      console: { ...console, pipe: false },
      calls: own ? machine.calls : [...machine.calls, serial],
    };
  }
  return {
    // The log would share stdout with the console, and it tells of each byte that a full console drops: let it go.
    arguments: ["--log-path", "/dev/null"],
    console: { ...console, pipe: true },
    calls: machine.calls,
  };
}

async function waitForApi(
  api: FirecrackerApi,
  options: LaunchOptions & {
    readonly apiSocketPath: string;
    readonly firecracker: ProcessIdentity;
    readonly executable: string;
  },
): Promise<void> {
  await watchUntil(
    {
      directory: options.runtimeDirectory,
      timeoutMs: START_TIMEOUT_MS,
      waitingFor: "Firecracker's API",
      // bind(2) makes the socket's event, listen(2) a moment later makes none.
      intervalMs: 1,
      signal: options.signal,
    },
    async () => {
      if (!isAlive(options.firecracker))
        throw new FirectlError("VMM_FAILED", `${options.executable} has ended at its start`);
      // A failed connect costs many times what this look does.
      return existsSync(options.apiSocketPath) && (await api.connectIfListening()) ? true : undefined;
    },
  );
  mark("API answers");
}

async function bootGuest({ api, calls }: Answering): Promise<void> {
  await api.configure(calls);
  mark("configured");
  await api.act("InstanceStart");
  mark("InstanceStart");
}

/** Boots the guest, and keeps it as it is before it has done anything of its own. */
async function bootAndKeep(
  answering: Answering,
  { boot, snapshot }: { readonly boot: BootPlan; readonly snapshot: BootSnapshot },
): Promise<void> {
  if (!snapshot.mayBeTaken()) return bootGuest(answering);
  const { ReadyListener, takeBootSnapshot } = await import("./take-boot-snapshot.ts");
  await using listener = await ReadyListener.open(boot.readySocketPath);
  await bootGuest(answering);
  if (!(await listener?.heard(answering.firecracker, answering.options))) return;
  mark("guest ready");
  await takeBootSnapshot(snapshot, answering);
  mark("snapshot taken");
}

async function restoreGuest({ api, calls }: Answering, snapshot: BootSnapshot): Promise<void> {
  // The serial port is the one part of the machine that a snapshot does not hold.
  await api.configure([...calls.filter(({ path: endpoint }) => endpoint === "/serial"), snapshot.loadCall()]);
  mark("snapshot loaded");
}
