import { FirectlError } from "../core/errors.ts";
import { mark } from "../core/trace.ts";
import { readStatus } from "../guest/control-drive.ts";
import type { VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { withDeadline } from "../host/deadline.ts";
import { makePrivateDirectory } from "../host/files.ts";
import type { NetworkRecord } from "../state/network-record.ts";
import type { ShareRecord } from "../state/share-record.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { MachineConfiguration, RunningVmm, Vmm } from "../vmm/vmm.ts";
import { currentBootSnapshots } from "./boot-snapshots.ts";
import type { Context } from "./context.ts";
import { secondsIn } from "./environment.ts";
import { endedStatus, endOf, exitReportOf, hasStarted } from "./exit-report.ts";
import { lastStatus } from "./finish-vm.ts";
import { GuestWatch } from "./guest-watch.ts";
import { lastWords } from "./last-words.ts";
import { userNetworkLauncher } from "./network/user-network.ts";
import { changeRecord } from "./records.ts";
import { shareProcesses } from "./shares/share-processes.ts";
import type { VmPaths } from "./vm-paths.ts";
import { WorkloadStartError } from "./workload-start-error.ts";

/** From InstanceStart to the workload's first instruction; emulation is slow, and worse when many boot. */
const BOOT_TIMEOUT_MS = { firecracker: 60_000, qemu: 180_000 } as const;

const LOOK_AT_KERNEL = "firectl run with --kernel-args loglevel=7 shows what the guest's kernel does";

/** Debian's kernel with its initramfs needs some 80 MiB under QEMU; firectl's own is content with the least allowed. */
const SCARCE_MEMORY_MIB = 128;

/** Of {@link waitForWorkload}: the guest has done nothing, or has ended. Being interrupted tells nothing of it. */
const GUEST_FAILURES: ReadonlySet<string> = new Set(["TIMEOUT", "GUEST_FAILED"]);

/** A guest whose workload has started, or has already ended again. */
export interface BootedVm extends AsyncDisposable {
  readonly watch: GuestWatch;
  readonly status: VmStatus;
  readonly vmm: RunningVmm;
  /** Milliseconds from the spawn of the VMM to its word that the guest's processors run. */
  readonly vmmMs: number;
  /** Milliseconds from there to the sight of the workload's start. */
  readonly bootMs: number;
}

export interface BootOptions {
  readonly record: VmRecord;
  readonly paths: VmPaths;
  readonly vmm: Vmm;
  readonly machine: MachineConfiguration;
  readonly shares?: readonly ShareRecord[] | undefined;
  readonly network?: NetworkRecord | undefined;
  /** As in LaunchOptions. */
  readonly meanwhile?: (() => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Starts the VMM and the guest in it, and waits until the workload has started. */
export async function bootVm(context: Context, options: BootOptions): Promise<BootedVm> {
  // Before anything is started: the variable may be wrong.
  const timeoutMs = secondsIn(context.env, "FIRECTL_BOOT_TIMEOUT") ?? BOOT_TIMEOUT_MS[options.vmm.name];
  const startedAt = performance.now();
  const vmm = await launchVmm(context, options);
  mark("vmm started");
  const vmmMs = performance.now() - startedAt;
  const watch = await GuestWatch.open(options.paths.controlDrive, vmm.process);
  try {
    const status = await waitForWorkload({ ...options, watch, timeoutMs });
    const bootMs = performance.now() - startedAt - vmmMs;
    return { watch, status, vmm, vmmMs, bootMs, [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose]() };
  } catch (error) {
    await watch[Symbol.asyncDispose]();
    // Should it be the snapshot's fault, the next VM boots.
    if (error instanceof FirectlError && GUEST_FAILURES.has(error.code)) vmm.bootSnapshot?.discard();
    throw error;
  }
}

/** Starts the VMM under its supervisor. */
export async function launchVmm(context: Context, options: BootOptions): Promise<RunningVmm> {
  await makePrivateDirectory(options.paths.runtimeDirectory);
  // Its log and console lie beside its disks.
  await makePrivateDirectory(options.paths.directory);
  const shares = options.shares ?? [];
  const sideProcesses = shares.length === 0 ? [] : await shareProcesses(context, shares, options.paths);
  const networkLauncher = options.network && (await userNetworkLauncher(context, options.network.ports));
  return options.vmm.launch(options.machine, {
    ...launchOptionsFor(context, options),
    sideProcesses,
    networkLauncher,
  });
}

/** Where the VMM of a VM keeps its files, and what follows its end. */
export function launchOptionsFor(
  context: Context,
  options: Pick<BootOptions, "record" | "paths" | "meanwhile" | "signal">,
): Parameters<Vmm["launch"]>[1] {
  return {
    runtimeDirectory: options.paths.runtimeDirectory,
    consolePath: options.paths.console,
    logPath: options.paths.vmmLog,
    afterExit: afterExitOf(context, options),
    meanwhile: options.meanwhile,
    bootSnapshots: currentBootSnapshots(context.directories.data),
    isGuestAtWork: async () => {
      const status = await lastStatus(options.paths.controlDrive);
      return hasStarted(status) || endedStatus(status) !== undefined;
    },
    signal: options.signal,
  };
}

/**
 * An attached VM's end is its owner's business, and a second process would only be in its way; unless the owner
 * has left it meanwhile.
 */
function afterExitOf(context: Context, options: Pick<BootOptions, "record" | "paths">): string[] {
  const command = reconcileCommand(context, options.record.id);
  if (!options.record.attached) return command;
  return ["/bin/sh", "-c", '[ ! -e "$0" ] || exec "$@"', options.paths.detachedMark, ...command];
}

/** The command that finishes a record once its VMM has ended, in the environment of this one. */
function reconcileCommand(context: Context, id: string): string[] {
  const { config, data, runtime } = context.directories;
  return [
    "/usr/bin/env",
    `FIRECTL_CONFIG_DIR=${config}`,
    `FIRECTL_DATA_DIR=${data}`,
    `FIRECTL_RUNTIME_DIR=${runtime}`,
    ...context.selfCommand,
    "internal",
    "reconcile",
    id,
  ];
}

async function waitForWorkload(
  options: BootOptions & { readonly watch: GuestWatch; readonly timeoutMs: number },
): Promise<VmStatus> {
  const { paths, vmm, watch, timeoutMs } = options;
  const words = async (): Promise<string> =>
    lastWords(paths, { status: await readStatus(watch.drive), vmm: vmm.name });
  const outcome = await withDeadline(
    {
      timeoutMs,
      waitingFor: "the guest to start its workload",
      signal: options.signal,
      hint: `${LOOK_AT_KERNEL}; FIRECTL_BOOT_TIMEOUT allows more seconds`,
    },
    (signal) =>
      watch.until(({ status, vmmAlive }) => {
        if (hasStarted(status) || endedStatus(status) !== undefined) return status;
        return vmmAlive ? undefined : "vmm-ended";
      }, signal),
  ).catch(async (error: unknown) => {
    if (!(error instanceof FirectlError) || error.code !== "TIMEOUT") throw error;
    throw new FirectlError("TIMEOUT", `${error.message}${await words()}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  });
  if (outcome === "vmm-ended") {
    throw new FirectlError("GUEST_FAILED", `the guest ended before its workload started${await words()}`, {
      hint: hintOfEarlyEnd(options.machine.memoryMib),
    });
  }
  if (!hasStarted(outcome)) throw new WorkloadStartError(exitReportOf(endOf(outcome)));
  return outcome;
}

/** A kernel that cannot even unpack its initramfs ends without a word. */
function hintOfEarlyEnd(memoryMib: number): string {
  return memoryMib < SCARCE_MEMORY_MIB
    ? `its kernel may need more than ${memoryMib} MiB: try -m ${SCARCE_MEMORY_MIB}m; ${LOOK_AT_KERNEL}`
    : LOOK_AT_KERNEL;
}

/** Puts a started VM on record as running. */
export async function recordAsRunning(
  context: Context,
  options: {
    id: string;
    vmm: Vmm;
    booted: { readonly vmm: RunningVmm };
    machine: MachineConfiguration | null;
    /** What has become known of the VM since its record was made. */
    known?: Partial<Pick<VmRecord, "workload" | "imageName" | "imageDigest" | "network">>;
  },
): Promise<VmRecord> {
  const { booted, vmm } = options;
  const record = await changeRecord(context.vms, options.id, (current) => ({
    ...current,
    ...options.known,
    state: "running",
    vmm: vmm.name,
    process: booted.vmm.process,
    firecrackerPid: booted.vmm.process.pid,
    companions: [...booted.vmm.companions],
    vmSocketPath: booted.vmm.apiSocketPath,
    kernelPath: options.machine?.bootSource.kernelImagePath ?? current.kernelPath,
    machine: options.machine === null ? null : (structuredClone(options.machine) as VmRecord["machine"]),
    startedAt: new Date().toISOString(),
    finishedAt: null,
    exitCode: null,
    exitSignal: null,
    oomKilled: false,
    error: null,
    owner: current.attached ? current.owner : null,
  }));
  if (record === undefined)
    throw new FirectlError("VM_NOT_FOUND", `VM ${options.id} was removed while it started`);
  return record;
}
