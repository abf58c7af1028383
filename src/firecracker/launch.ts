import { existsSync } from "node:fs";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { mark } from "../core/trace.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";
import { socketsOf, superviseDetached } from "../host/supervise.ts";
import { watchUntil } from "../host/watch-directory.ts";
import type { LaunchOptions, RunningVmm } from "../vmm/vmm.ts";
import { FirecrackerApi } from "./api/client.ts";
import type { ConfigurationCall, RawCall } from "./api/types.ts";
import { boundedConsole, CONSOLE_LIMIT_BYTES } from "./configuration.ts";
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
}

/** Milliseconds on real hardware; nested machines are slower by a factor of twenty. */
const START_TIMEOUT_MS = 30_000;

/**
 * Starts Firecracker, configures it over its API and starts the guest.
 * @throws FirectlError as {@link Vmm.launch}.
 */
export async function launchFirecracker(
  program: FirecrackerProgram,
  machine: FirecrackerMachine,
  options: LaunchOptions,
): Promise<RunningVmm> {
  const apiSocketPath = path.join(options.runtimeDirectory, "api.sock");
  const plan = consolePlan(program.version, machine, options);
  const supervised = await superviseDetached({
    runtimeDirectory: options.runtimeDirectory,
    argv: [program.executable, "--api-sock", apiSocketPath, "--level", "Error", ...plan.arguments],
    sideProcesses: options.sideProcesses ?? [],
    logPath: options.logPath,
    console: plan.console,
    afterExit: options.afterExit,
    meanwhile: options.meanwhile,
    sockets: [apiSocketPath, ...machine.sockets, ...socketsOf(options.sideProcesses)],
    ready: ({ process: firecracker }) =>
      startGuest(firecracker, apiSocketPath, plan.calls, { ...options, executable: program.executable }),
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

async function startGuest(
  firecracker: ProcessIdentity,
  apiSocketPath: string,
  calls: FirecrackerMachine["calls"],
  options: LaunchOptions & { readonly executable: string },
): Promise<void> {
  using api = new FirecrackerApi(apiSocketPath, { timeoutMs: START_TIMEOUT_MS, signal: options.signal });
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
      if (!isAlive(firecracker))
        throw new FirectlError("VMM_FAILED", `${options.executable} has ended at its start`);
      // A failed connect costs many times what this look does.
      return existsSync(apiSocketPath) && (await api.connectIfListening()) ? true : undefined;
    },
  );
  mark("API answers");
  await api.configure(calls);
  mark("configured");
  await api.act("InstanceStart");
  mark("InstanceStart");
}
