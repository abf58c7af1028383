import type { ProcessIdentity } from "../host/process-identity.ts";
import type { SideProcess } from "../host/supervise.ts";
import type { RawConfiguration } from "./raw-configuration.ts";

export type VmmName = "firecracker" | "qemu";

/** How the guest sees a file of the host: as a disk, or as memory that every VM of the file shares. */
export type DriveDevice = "block" | "pmem";

/** A file that the guest has; `guestDeviceName` says as what. */
export interface Drive {
  /** Firecracker's drive_id: letters, digits and underscores. */
  readonly id: string;
  readonly path: string;
  /** A disk when absent. */
  readonly device?: DriveDevice | undefined;
  readonly readOnly: boolean;
  /** What an fsync in the guest does: `writeback` reaches the host's disk, `unsafe` reaches nobody. */
  readonly cache: "unsafe" | "writeback";
  /** Of reads and writes together. */
  readonly limit?: RateLimit | undefined;
}

/** Rates by the second; what is absent is not limited. */
export interface RateLimit {
  readonly bytesPerSecond?: number | undefined;
  /** Requests of a disk, packets of an interface. */
  readonly operationsPerSecond?: number | undefined;
}

/** The guest's network interface, eth0. */
export interface NetworkDevice {
  readonly macAddress: string;
  /** Of what it sends and of what it receives, each by itself. */
  readonly limit?: RateLimit | undefined;
}

/** Changes of a machine while it runs. */
export interface MachineChange {
  /** How much of its memory the guest is to give back, in MiB. */
  readonly balloonMib?: number | undefined;
  /** Limits of drives by their ids; they take the place of those that there were. */
  readonly driveLimits?: Readonly<Record<string, RateLimit>> | undefined;
  /** Takes the place of the interface's limit. */
  readonly networkLimit?: RateLimit | undefined;
}

/** One microVM, in the words of Firecracker's API. */
export interface MachineConfiguration {
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly bootSource: {
    readonly kernelImagePath: string;
    readonly initrdPath: string;
    /** What firectl and the user add to the backend's own kernel arguments. */
    readonly kernelArguments: readonly string[];
  };
  readonly drives: readonly Drive[];
  readonly vsock: { readonly guestCid: number; readonly socketPath: string };
  /** Needs {@link LaunchOptions.networkLauncher}. None when absent. */
  readonly network?: NetworkDevice | undefined;
  /** Whether the guest may go on from a snapshot of an earlier one's boot, and leave one; `auto` when absent. */
  readonly bootSnapshot?: "auto" | "never" | undefined;
}

/** The program that becomes the VMM once the guest's interface leads somewhere: agent/src/network_relay. */
export interface NetworkLauncher {
  /** Absolute path. */
  readonly program: string;
  /** Path and arguments of passt(1). */
  readonly passt: readonly string[];
}

/** Where a VMM keeps its run-time files, and what follows its end. */
export interface LaunchOptions {
  /** Directory of this VM's sockets and pid files; short enough that sockets in it stay under 108 bytes. */
  readonly runtimeDirectory: string;
  /** Receives the guest's serial console, bounded in size. */
  readonly consolePath: string;
  /** Receives what the VMM itself says: its log, its last words. */
  readonly logPath: string;
  /** Run detached once the VMM has ended, whatever became of the firectl that started it. */
  readonly afterExit: readonly string[];
  /** Run beside the VMM, from before its start to its end. */
  readonly sideProcesses?: readonly SideProcess[] | undefined;
  /** What connects the machine's network device; there is one exactly where there is a device. */
  readonly networkLauncher?: NetworkLauncher | undefined;
  /**
   * Called once the VMM's process is on its way; the guest is started when it is done. What the machine is made of,
   * its disks above all, need not be there before.
   */
  readonly meanwhile?: (() => Promise<void>) | undefined;
  /** Where this boot of the host keeps the snapshots that guests go on from; none are used when absent. */
  readonly bootSnapshots?: string | undefined;
  /** Whether the guest works already, so that it is too late for a snapshot of its boot. */
  readonly isGuestAtWork?: (() => Promise<boolean>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A started VMM. It belongs to the operating system: dropping this object leaves it running. */
export interface RunningVmm {
  readonly process: ProcessIdentity;
  /** Every process that must be gone before the VM is: supervisor and side processes, the VMM excepted. */
  readonly companions: readonly ProcessIdentity[];
  /** Firecracker's API socket, or QMP's. */
  readonly apiSocketPath: string;
  /** The snapshot that the guest goes on from, where it has not booted. */
  readonly bootSnapshot?: { discard(): void } | undefined;
}

/** A virtual machine monitor. The code above it does not know which one runs. */
export interface Vmm {
  readonly name: VmmName;
  /** Absolute path of the program. */
  readonly executable: string;
  /** Whether an x86 kernel may be a bzImage; otherwise it must be the uncompressed ELF. */
  readonly loadsCompressedKernel: boolean;
  /** Why this VMM gives a guest no persistent memory; undefined when it does. */
  readonly pmemLack: string | undefined;
  /**
   * Starts the VMM, configures it and starts the guest; returns once the guest's processors run.
   * When it throws, no process and no file of its own is left.
   * @throws FirectlError VMM_FAILED with the VMM's last words, VMM_REFUSED with its fault message, TIMEOUT.
   */
  launch(configuration: MachineConfiguration, options: LaunchOptions): Promise<RunningVmm>;
  /**
   * The same for a machine that the user has described in Firecracker's own words.
   * @throws FirectlError as launch does; UNSUPPORTED naming a section that this VMM has nothing for.
   */
  launchRaw(configuration: RawConfiguration, options: LaunchOptions): Promise<RunningVmm>;
}
