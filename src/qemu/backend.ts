import { readFile } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";
import {
  logIsWhole,
  readVmmStatus,
  type SideProcess,
  socketsOf,
  superviseDetached,
} from "../host/supervise.ts";
import { watchUntil } from "../host/watch-directory.ts";
import { launchedBy } from "../vmm/network-launcher.ts";
import type { LaunchOptions, MachineConfiguration, RunningVmm, Vmm } from "../vmm/vmm.ts";
import { NETWORK_FD, type QemuMachine, type QemuPlan, qemuArguments, tscKhzOfCpuinfo } from "./arguments.ts";
import { noNetworkLimit } from "./change.ts";
import { QmpClosedError, runQmp } from "./qmp.ts";
import { translateRaw } from "./translate-raw.ts";

export interface QemuPrograms {
  /** Absolute path of qemu-system-x86_64 or qemu-system-aarch64. */
  readonly executable: string;
  /** Absolute path of vhost-device-vsock. */
  readonly vhostDeviceVsock: string;
}

/** Emulated machines start slowly when many do at once. */
const START_TIMEOUT_MS = 60_000;

/** A hostile guest can write to its serial port, and make QEMU complain, without end: the rest is dropped. */
const OUTPUT_LIMIT_BYTES = 1024 * 1024;

/** QEMU in software emulation: the virtual machine monitor of hosts on which KVM cannot be used. */
export function qemuVmm(programs: QemuPrograms): Vmm {
  return {
    name: "qemu",
    executable: programs.executable,
    loadsCompressedKernel: true,
    pmemLack: "QEMU's microvm machine has no persistent memory",
    launch: (machine, options) => launch(programs, { ...machine, balloon: true }, options),
    launchRaw: async (raw, options) => launch(programs, translateRaw(raw), options),
  };
}

async function launch(
  programs: QemuPrograms,
  machine: QemuMachine,
  options: LaunchOptions,
): Promise<RunningVmm> {
  if (machine.network?.limit !== undefined) throw noNetworkLimit();
  // It opens its disks at once.
  await options.meanwhile?.();
  const qmpSocketPath = path.join(options.runtimeDirectory, "qmp.sock");
  const vhostSocketPath = path.join(options.runtimeDirectory, "vhost.sock");
  const plan = await planOf(machine, { qmpSocketPath, vhostSocketPath });
  const { vsock } = machine;
  const supervised = await superviseDetached({
    runtimeDirectory: options.runtimeDirectory,
    ...launchedBy(options.networkLauncher, {
      argv: [programs.executable, ...qemuArguments(plan)],
      end: { socketFd: NETWORK_FD },
      runtimeDirectory: options.runtimeDirectory,
    }),
    sideProcesses: [
      ...(vsock === undefined ? [] : [vsockProcess(programs, vsock, vhostSocketPath)]),
      ...(options.sideProcesses ?? []),
    ],
    logPath: options.logPath,
    console: { path: options.consolePath, limitBytes: OUTPUT_LIMIT_BYTES, pipe: true },
    afterExit: options.afterExit,
    sockets: [
      ...[qmpSocketPath, vhostSocketPath, ...(vsock === undefined ? [] : [vsock.socketPath])],
      ...socketsOf(options.sideProcesses),
    ],
    ready: (qemu) => guestRuns(qemu, qmpSocketPath, { ...options, executable: programs.executable }),
    timeoutMs: START_TIMEOUT_MS,
    signal: options.signal,
  });
  return { ...supervised, apiSocketPath: qmpSocketPath };
}

function vsockProcess(
  programs: QemuPrograms,
  vsock: MachineConfiguration["vsock"],
  vhostSocketPath: string,
): SideProcess {
  return {
    name: "vsock",
    socketPath: vhostSocketPath,
    // A guest can make it complain without end, too.
    logLimitBytes: OUTPUT_LIMIT_BYTES,
    argv: [
      ...[programs.vhostDeviceVsock, "--guest-cid", String(vsock.guestCid)],
      ...["--socket", vhostSocketPath, "--uds-path", vsock.socketPath],
    ],
  };
}

async function planOf(
  machine: QemuMachine,
  sockets: Pick<QemuPlan, "qmpSocketPath" | "vhostSocketPath">,
): Promise<QemuPlan> {
  const architecture = process.arch;
  if (architecture !== "x64" && architecture !== "arm64") {
    throw new FirectlError(
      "HOST_UNSUPPORTED",
      `no guest can run on ${architecture}: x86_64 or arm64 is needed`,
    );
  }
  const tscKhz =
    architecture === "x64" ? tscKhzOfCpuinfo(await readFile("/proc/cpuinfo", "latin1")) : undefined;
  return { architecture, machine, tscKhz, ...sockets };
}

/** Waits until QEMU says on QMP that the guest's processors run; or until they have, a guest may be quicker. */
async function guestRuns(
  qemu: ProcessIdentity,
  qmpSocketPath: string,
  options: LaunchOptions & { readonly executable: string },
): Promise<void> {
  await watchUntil(
    {
      directory: options.runtimeDirectory,
      timeoutMs: START_TIMEOUT_MS,
      waitingFor: "QEMU to start the guest",
      intervalMs: 5,
      signal: options.signal,
    },
    async () => {
      if (!isAlive(qemu)) {
        if (await guestHasEnded(options.runtimeDirectory)) return true;
        throw new FirectlError("VMM_FAILED", `${options.executable} has ended at its start`);
      }
      try {
        const [status] = await runQmp(qmpSocketPath, ["query-status"], {
          timeoutMs: START_TIMEOUT_MS,
          signal: options.signal,
        });
        return typeof status === "object" && status !== null && "running" in status && status.running === true
          ? true
          : undefined;
      } catch (error) {
        const errno = errnoOf(error);
        if (errno === "ENOENT" || errno === "ECONNREFUSED") return undefined;
        // On its way to its end; the next look tells of which kind.
        if (error instanceof QmpClosedError) return undefined;
        throw error;
      }
    },
  );
}

/** Of a QEMU that has ended: 0 is the end of a guest, since QEMU ends with 1 when it cannot start one. */
async function guestHasEnded(runtimeDirectory: string): Promise<boolean> {
  await logIsWhole(runtimeDirectory);
  return readVmmStatus(runtimeDirectory) === 0;
}
