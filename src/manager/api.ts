import type { VmId } from "../core/brands.ts";
import type { DriveDevice, MachineConfiguration, VmmName } from "../vmm/vmm.ts";
import type { ResourceOptions } from "./resources.ts";
import type { ProcessSummary, StatsOptions, VmStats } from "./stats-api.ts";
import type { UpdateOptions } from "./update-vm.ts";

/**
 * - `creating`: a firectl is building and booting it.
 * - `running`: its VMM lives and its workload has started.
 * - `exited`: the workload has ended and said how.
 * - `dead`: the VMM ended and the guest never said how.
 * - `removing`: on its way out; the next command finishes the work.
 */
export type VmState = "creating" | "running" | "exited" | "dead" | "removing";

export type PullPolicy = "always" | "missing" | "never";
export type StorageMode = "overlay" | "copy";
export type VmmChoice = "auto" | VmmName;
/** How the guest sees the image: as a disk (`block`) or as memory that all its VMs share (`pmem`). */
export type ImageDevice = "auto" | DriveDevice;
/** Whether a VM may go on from a snapshot of another one's boot, and leave one for others. */
export type BootSnapshotUse = NonNullable<MachineConfiguration["bootSnapshot"]>;

/** `user`: the host's network by way of a process of the user's own; see docs/network.md. */
export type NetworkMode = "none" | "user";

/** A port of the host that leads to one of the VM's. */
export interface PublishedPort {
  /** TCP when absent. */
  readonly protocol?: "tcp" | "udp";
  /** IPv4 address of the host; all when absent. */
  readonly hostAddress?: string;
  /** Any that is free when absent. */
  readonly hostPort?: number;
  readonly guestPort: number;
}

/** What `pull` does. */
export interface PullOptions {
  /** `os/arch[/variant]`. */
  readonly platform?: string;
  /**
   * Whether the root filesystem is built while the layers come in, so that the first run finds it; true unless
   * given, for images of this machine's architecture.
   */
  readonly build?: boolean;
  readonly limits?: ImageLimits;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** What an image may take, uncompressed; `config.json` and then defaults hold for what is absent. */
export interface ImageLimits {
  /** Bytes of all layers together. */
  readonly maxBytes?: number;
  /** Entries of all layers together. */
  readonly maxEntries?: number;
}

/** A volume in the VM's root; made when there is none of that name, anonymous without a name. */
export interface VolumeMountOptions {
  readonly type: "volume";
  readonly name?: string;
  readonly destination: string;
  readonly readOnly?: boolean;
  /** Whether an empty volume is filled with what the image has at the destination; true unless given. */
  readonly copy?: boolean;
  /** Of the volume, if it is made. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly sizeBytes?: number;
}

/** A directory or file of the host: live, or copied before the VM's first start. */
export interface BindMountOptions {
  readonly type: "bind";
  /** Absolute path. */
  readonly source: string;
  readonly destination: string;
  readonly readOnly?: boolean;
  /** Shared, so that each side sees what the other writes; true for what is not read-only unless given. */
  readonly live?: boolean;
  /** Whose the user's files are in the guest's eyes, when live; the workload's user's unless given. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** Memory, which goes with the VM. */
export interface TmpfsMountOptions {
  readonly type: "tmpfs";
  readonly destination: string;
  readonly readOnly?: boolean;
  /** As of mount(8): `size=64m`, `mode=755`, `exec`; they follow Docker's `noexec,nosuid,nodev`. */
  readonly options?: readonly string[];
}

/** Something mounted into a VM's root. */
export type MountOptions = VolumeMountOptions | BindMountOptions | TmpfsMountOptions;

/** What `run` does, in `docker run`'s words. Sizes in bytes, times in milliseconds. */
export interface RunOptions {
  /**
   * `REF`, `docker://REF`, `docker:REF`, `docker-archive:FILE[:REF]`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
   * `rootfs:DIR-or-TAR`.
   */
  readonly image: string;
  /** Replaces the image's Cmd when not empty. */
  readonly command?: readonly string[];
  /** Replaces the image's Entrypoint; an empty list clears it. */
  readonly entrypoint?: readonly string[];
  /** `KEY=value`, added to the image's. */
  readonly env?: readonly string[];
  readonly user?: string;
  readonly workingDir?: string;
  readonly hostname?: string;
  /** Name or number; the image's own when absent, SIGTERM when that is absent too. */
  readonly stopSignal?: string;
  /** How long `stop` waits by default. */
  readonly stopTimeoutMs?: number;
  /** Mount the workload's root filesystem read-only. */
  readonly readOnly?: boolean;
  /** Replaces parts of the image's own health check; false: no check at all. */
  readonly healthCheck?: HealthCheckOptions | false;
  /** The workload's standard streams are a terminal; stdout and stderr are then one. */
  readonly tty?: boolean;
  /** The terminal's size at the start. */
  readonly terminalSize?: TerminalSize;
  /**
   * Keep the workload's input open, for {@link WorkloadSession.sendInput}; else it is empty. Without `detach` or
   * `tty` it ends with the first input that does.
   */
  readonly openStdin?: boolean;
  /** Run the workload under a process that is PID 1, passes signals on and reaps orphans. */
  readonly init?: boolean;
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Remove everything of the VM once its workload has ended. */
  readonly autoRemove?: boolean;
  /**
   * A VM that is not detached belongs to the calling process: if that dies without disposing of the VM, the
   * next firectl command ends and removes it.
   */
  readonly detach?: boolean;
  /** Processors, up to 32; a fraction is one more of which the workload gets its part. */
  readonly cpus?: number;
  readonly resources?: ResourceOptions;
  readonly memoryBytes?: number;
  /** Size of the writable disk (`overlay`) or of the whole root filesystem (`copy`). */
  readonly diskBytes?: number;
  /** How much of the workload's output is kept: the newest; 16 MiB when absent. */
  readonly logBytes?: number;
  readonly pull?: PullPolicy;
  /** `os/arch[/variant]`. */
  readonly platform?: string;
  readonly limits?: ImageLimits;
  readonly vmm?: VmmChoice;
  /** Name of an installed kernel or path of a kernel image. */
  readonly kernel?: string;
  /** Added to the guest kernel's command line. */
  readonly kernelArguments?: readonly string[];
  readonly storage?: StorageMode;
  /** `auto` unless given: `pmem` where VMM, kernel and the image's size allow it. */
  readonly imageDevice?: ImageDevice;
  /** `never`: boot the kernel, and leave no snapshot for others. `auto` unless given. */
  readonly bootSnapshot?: BootSnapshotUse;
  readonly mounts?: readonly MountOptions[];
  /** `none` unless given, or a port is published. */
  readonly network?: NetworkMode;
  readonly publish?: readonly PublishedPort[];
  /** Also every port that the image exposes and `publish` does not name, on any port of the host that is free. */
  readonly publishAll?: boolean;
  /** VMs, by id or name, whose volumes and copies of host directories this one has too. */
  readonly volumesFrom?: readonly { readonly vm: string; readonly readOnly?: boolean }[];
  /** Size of /dev/shm, 64 MiB when absent. */
  readonly shmBytes?: number;
  /** Gives up starting and leaves nothing behind. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/**
 * How the workload's health is looked after, https://docs.docker.com/reference/dockerfile/#healthcheck; what is
 * absent is the image's, then Docker's default.
 */
export interface HealthCheckOptions {
  /** For the image's /bin/sh; it ends with 0 when the workload is well. */
  readonly command?: string;
  /** Between two checks; 30 s. */
  readonly intervalMs?: number;
  /** 30 s. */
  readonly timeoutMs?: number;
  /** How long failures do not count at first; 0. */
  readonly startPeriodMs?: number;
  /** The interval within the start period; 5 s. */
  readonly startIntervalMs?: number;
  /** Failures in a row that make the workload unhealthy; 3. */
  readonly retries?: number;
}

/** `none` without a health check. */
export type HealthStatus = "none" | "starting" | "healthy" | "unhealthy";

/** `run --config`: a hand-written Firecracker configuration instead of an image. */
export interface RunConfigurationOptions {
  /** File in the format of `firecracker --config-file`. */
  readonly configPath: string;
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly autoRemove?: boolean;
  readonly detach?: boolean;
  readonly vmm?: VmmChoice;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** What a progress display is drawn from. */
export type ProgressEvent =
  | { readonly kind: "resolving"; readonly reference: string }
  | {
      readonly kind: "layer";
      readonly digest: string;
      readonly receivedBytes: number;
      readonly totalBytes: number;
      readonly done: boolean;
    }
  | { readonly kind: "exporting"; readonly reference: string; readonly receivedBytes: number }
  /** An archive, a tar or a directory is read into the store. */
  | { readonly kind: "reading"; readonly reference: string; readonly receivedBytes: number }
  | { readonly kind: "building"; readonly readBytes: number; readonly totalBytes: number | undefined }
  | { readonly kind: "booting"; readonly vmm: VmmName }
  /** What goes on, in words. */
  | { readonly kind: "stage"; readonly text: string }
  /** One clear line for the user, for instance why QEMU was chosen. Shown even without a terminal. */
  | { readonly kind: "notice"; readonly message: string };

/** Where the time of a start went; milliseconds, absent where the stage did not happen or cannot be told. */
export interface StartTimings {
  /** From the begin of the process to the call of `run`: Node, modules, flags; of the command line only. */
  readonly loadMs?: number;
  readonly pullMs?: number;
  readonly buildMs?: number;
  /** The record, the choice of VMM, kernel and initramfs, and what the VMM cannot be started without. */
  readonly prepareMs?: number;
  /** From spawning the VMM to InstanceStart (QEMU: to its spawn being done); the disks are made meanwhile. */
  readonly vmmMs?: number;
  /**
   * From there until the guest's clock began to count: loading and unpacking of the kernel, or the first steps of a
   * guest that goes on from a snapshot; and its notice.
   */
  readonly earlyMs?: number;
  /** Guest kernel until PID 1 of the initramfs. */
  readonly kernelMs?: number;
  /** The agent until the workload's execve. */
  readonly initMs?: number;
  /** The workload's own run; foreground only. */
  readonly workloadMs?: number;
  /** From its end until nothing of the VM was left, or its record told how it ended; foreground only. */
  readonly settleMs?: number;
  /** From the call of `run` or `start` until the workload ran. */
  readonly totalMs: number;
}

/** How a workload ended. */
export interface ExitReport {
  /** 0–255; 128 + signal when a signal ended it. */
  readonly exitCode: number;
  readonly signal?: string;
  readonly oomKilled: boolean;
  /** Set when the guest never said how it ended, or said why it failed. */
  readonly error?: string;
}

export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

/** Of a terminal, in characters. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** A running workload with its streams. */
export interface WorkloadSession extends AsyncDisposable {
  readonly id: VmId;
  readonly name: string;
  /** Whether its standard streams are a terminal: all its output is then `stdout`. */
  readonly tty: boolean;
  /** Whether it reads what {@link sendInput} sends. */
  readonly openStdin: boolean;
  /**
   * The workload's output, ending with the workload: from its first byte for whoever started it, from now on
   * for others. One reader only; one that takes its time holds the workload up, and loses nothing.
   */
  output(): AsyncIterable<OutputChunk>;
  /**
   * Sends what the workload reads. Resolves when `source` has ended or the workload takes no more.
   * @throws FirectlError WRONG_STATE when it has no input, AGENT_UNREACHABLE.
   */
  sendInput(source: AsyncIterable<Uint8Array>): Promise<void>;
  /** Sets the size of the workload's terminal. @throws FirectlError WRONG_STATE when it has none. */
  resize(size: TerminalSize): Promise<void>;
  /** Settles when the workload has ended and the record says so (or is gone, with `autoRemove`). */
  readonly exit: Promise<ExitReport>;
  /** Sends a signal (name or number) to the workload. */
  signal(signal: string): Promise<void>;
  /** Ends the wait: a VM that belongs to this process is killed and removed, any other is left alone. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A VM whose workload has started, as seen by the process that started it. */
export interface StartedVm extends WorkloadSession {
  readonly vmm: VmmName;
  /** Without `workloadMs` until the workload has ended. */
  timings(): StartTimings;
  /** Makes the VM one that belongs to no process, as if started with `detach`. */
  detach(): Promise<void>;
}

export interface VmSummary {
  readonly id: VmId;
  readonly name: string;
  readonly imageName: string;
  readonly command: readonly string[];
  /** RFC 3339. */
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly state: VmState;
  /** Of a running VM; `none` for all others. */
  readonly health: HealthStatus;
  readonly exitCode: number | null;
  readonly vmm: VmmName | null;
  readonly pid: number | null;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Those that lead to it, if it runs. */
  readonly ports: readonly Required<PublishedPort>[];
}

export interface ListOptions {
  /** Those that do not run too. */
  readonly all?: boolean;
  /** Only those made from one of these images: a name, a digest or the beginning of one. */
  readonly images?: readonly string[];
}

export interface StopOptions {
  /** Name or number of a signal for the workload, as `SIGINT` or `RTMIN+3`; the VM's own stop signal when absent. */
  readonly stopSignal?: string;
  /** From the stop signal to the kill; the VM's own stop timeout when absent. */
  readonly timeoutMs?: number;
  /** Keep record, disks and logs, for `start`. */
  readonly keep?: boolean;
  readonly signal?: AbortSignal;
}

export interface WaitForHealthOptions {
  /** While waiting for `healthy`: throw UNHEALTHY as soon as the VM is that. */
  readonly rejectUnhealthy?: boolean;
  readonly signal?: AbortSignal;
}

export interface StartOptions {
  /** As with `run`. */
  readonly detach?: boolean;
  readonly terminalSize?: TerminalSize;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** Those of a stop, then those of a start. */
export type RestartOptions = Omit<StopOptions, "keep"> & Pick<StartOptions, "onProgress">;

export interface LogsOptions {
  /** Go on until the workload ends, or the time of `untilUnixNs` has come. */
  readonly follow?: boolean;
  /** Nanoseconds since the Unix epoch. */
  readonly sinceUnixNs?: bigint;
  readonly untilUnixNs?: bigint;
  /** The last so many lines. */
  readonly tail?: number;
  readonly signal?: AbortSignal;
}

export interface LogEntry extends OutputChunk {
  readonly timeUnixNs: bigint;
}

export interface ExecOptions {
  readonly command: readonly string[];
  /** `KEY=value`, added to the workload's. */
  readonly env?: readonly string[];
  readonly user?: string;
  readonly workingDir?: string;
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** The command's standard streams are a terminal; all output is then `stdout`. */
  readonly tty?: boolean;
  readonly terminalSize?: TerminalSize;
  /** Later sizes of the terminal. */
  readonly resizes?: AsyncIterable<TerminalSize>;
  /** Leaves the command running when it aborts; `exec` then rejects with its reason. */
  readonly detachSignal?: AbortSignal;
  /** Called in order, each after the last has resolved: a slow consumer slows the process. */
  readonly onOutput: (chunk: OutputChunk) => unknown;
  readonly signal?: AbortSignal;
}

/** What `cp` does, both ways. */
export interface CopyOptions {
  /** Keep owners by their numbers. Else root owns what comes into a VM, and the caller what comes out. */
  readonly archive?: boolean;
  /** Follow the source if it is a symbolic link. */
  readonly followLinks?: boolean;
  readonly signal?: AbortSignal;
}

export interface CopyReport {
  /** Of files' data; of an archive, its own. */
  readonly bytes: number;
  /** Devices of a VM, which are not made on this machine: the first 100. */
  readonly leftOut: readonly string[];
  /** How many devices there are. */
  readonly leftOutCount: number;
}

/** A command that nobody attends to: without input, its output goes nowhere. */
export type DetachedExecOptions = Pick<
  ExecOptions,
  "command" | "env" | "user" | "workingDir" | "tty" | "terminalSize" | "signal"
>;

export interface ExportOptions {
  readonly signal?: AbortSignal;
}

export interface KernelSummary {
  readonly name: string;
  readonly version: string;
  readonly path: string;
  readonly isDefault: boolean;
  readonly sizeBytes: number;
  /** RFC 3339. */
  readonly addedAt: string;
  /** Names of the modules that guests load; none where all is built in. */
  readonly modules: readonly string[];
  /** What is built in, in the words of kernel/features.conf; absent where that is not known. */
  readonly features?: readonly string[];
}

export interface BuildKernelOptions {
  /** Default: `firectl-VERSION`. */
  readonly name?: string;
  /** Path or https URL of kernel.org's archive, with `sha256`, instead of the distribution's source package. */
  readonly source?: string;
  readonly sha256?: string;
  /** Optional parts, names of files in `kernel/config/optional`. */
  readonly parts?: readonly string[];
  /** Compilers at once, by default one a processor. */
  readonly jobs?: number;
  /** True unless said otherwise. */
  readonly makeDefault?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

export interface AddKernelOptions {
  /**
   * Path of a kernel image or of a directory that `kernel/build.sh` has made, an https URL with `sha256`, or
   * undefined for the distribution's package.
   */
  readonly source?: string;
  readonly sha256?: string;
  readonly name?: string;
  /** Directory with the kernel's modules (`/lib/modules/VERSION`). */
  readonly modulesDirectory?: string;
  readonly makeDefault?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

export interface ImageSummary {
  /** The name in full (`docker.io/library/nginx:1.27`); the digest, for an image without a name. */
  readonly reference: string;
  /** As users write it (`nginx`); undefined when the image never had a name. */
  readonly repository: string | undefined;
  /** Undefined for an image whose name has gone to another, or has no tag. */
  readonly tag: string | undefined;
  /** No name leads to it any more. */
  readonly dangling: boolean;
  /** Of the manifest for `platform`. */
  readonly digest: string;
  readonly platform: string;
  /** RFC 3339, as the image says. */
  readonly createdAt: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** What is fetched for it: manifest, configuration and layers as they are stored. */
  readonly sizeBytes: number;
  /** What its blobs and filesystems take on this disk; what images share counts for each of them. */
  readonly diskBytes: number;
  /** Ids of the VMs made from it. */
  readonly usedBy: readonly string[];
}

export interface RemoveImageOptions {
  /** Take all names away even when there are several, or when VMs use the image, which then stays nameless. */
  readonly force?: boolean;
}

export interface RemovedImage {
  /** Names that are gone, as users write them. */
  readonly untagged: readonly string[];
  /** Digests of the images that are gone. */
  readonly deleted: readonly string[];
}

export interface PruneOptions {
  /** All images that no VM uses, not only those without a name. */
  readonly all?: boolean;
  /** Anonymous volumes that no VM has, too. */
  readonly volumes?: boolean;
  /** Only images made, and files written, before this moment; milliseconds since the Unix epoch. */
  readonly untilMs?: number;
}

export interface CreateVolumeOptions {
  /** An anonymous volume's is made up. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Of its filesystem, 10 GiB when absent; the file takes only what is written. */
  readonly sizeBytes?: number;
  /** As the user gave them; shown, and nothing else. */
  readonly options?: Readonly<Record<string, string>>;
}

export interface VolumeSummary {
  readonly name: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  /** What it may grow to. */
  readonly sizeBytes: number;
  /** What it takes on this machine's disk. */
  readonly diskBytes: number;
  /** The ext4 disk; its directory `data` is what is mounted. */
  readonly path: string;
  /** Nobody has named it. */
  readonly isAnonymous: boolean;
  /** Names of the VMs that have it, whether they run or not. */
  readonly usedBy: readonly string[];
}

export interface PruneVolumesOptions {
  /** Those with a name, too. */
  readonly all?: boolean;
  /** Only those for which it returns true. */
  readonly filter?: (volume: VolumeSummary) => boolean;
}

export interface PruneVolumesReport {
  readonly volumes: readonly VolumeSummary[];
  /** Real blocks that were freed. */
  readonly reclaimedBytes: number;
  /** Why something unused had to stay this time. */
  readonly postponed: readonly string[];
}

/** What kind of thing takes space. */
export type DiskUsageKind =
  | "image"
  | "blob"
  | "filesystem"
  | "vm"
  | "volume"
  | "kernel"
  | "cache"
  | "download";

/** One thing that takes space below firectl's data directory. */
export interface DiskUsageItem {
  readonly kind: DiskUsageKind;
  /** An image's names or digest, a VM's or kernel's name, else a path below the data directory. */
  readonly name: string;
  /** Real blocks. What images share counts once, with one that is in use if there is one. */
  readonly bytes: number;
  /** False when it can be removed, and its bytes be had back. */
  readonly inUse: boolean;
}

export interface PruneReport {
  readonly images: readonly RemovedImage[];
  /** What else went: blobs, filesystems, caches, downloads. */
  readonly items: readonly { readonly kind: DiskUsageKind; readonly name: string; readonly bytes: number }[];
  /** Real blocks that were freed. */
  readonly reclaimedBytes: number;
  /** Why something unused had to stay this time. */
  readonly postponed: readonly string[];
}

/** A login to be checked, and kept; without user and password, the one that is known is checked. */
export interface LoginOptions {
  /** `HOST[:PORT]`, Docker Hub when absent. */
  readonly registry?: string;
  readonly username?: string;
  readonly password?: string;
  readonly signal?: AbortSignal;
}

export interface LoginReport {
  readonly registry: string;
  /** The file or the credential helper's program; null for a login that was known. */
  readonly storedIn: string | null;
  /** Whether whoever reads that file has the password. */
  readonly isPlain: boolean;
}

export interface LogoutReport {
  readonly registry: string;
  /** Files and programs of credential helpers, none when there was no login. */
  readonly removedFrom: readonly string[];
  /** Whether a file that firectl does not write has a login still. */
  readonly isStillKnown: boolean;
}

/** What the operations that bring images into the store share. */
export interface BringImageOptions {
  /** `os/arch[/variant]`; this machine's when absent. */
  readonly platform?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** An archive of images: a file, or a stream that `label` names in messages. */
export type LoadSource =
  | { readonly file: string }
  | { readonly input: AsyncIterable<Uint8Array>; readonly label?: string };

/** An image that `load` or `import` has brought in. */
export interface LoadedImage {
  /** As users write them; none when neither the archive nor the caller gave one. */
  readonly names: readonly string[];
  /** Of the manifest; the image can be named by it. */
  readonly digest: string;
}

export interface SaveImagesOptions {
  /** A file, written whole or not at all, or a function that is given the archive piece by piece. */
  readonly output: string | ((chunk: Uint8Array) => unknown);
  /**
   * `docker-archive` (the default): for docker, podman and skopeo, an OCI layout with Docker's manifest.json;
   * `oci-archive`: the OCI layout alone.
   */
  readonly format?: "docker-archive" | "oci-archive";
  readonly platform?: string;
  readonly signal?: AbortSignal;
}

export interface ImportImageOptions extends BringImageOptions {
  /** `REPOSITORY[:TAG]`. */
  readonly name?: string;
  /** Dockerfile instructions (`CMD ["sh"]`, `ENV A=b`) that make the image's configuration. */
  readonly changes?: readonly string[];
  /** What the image's history says. */
  readonly message?: string;
}

/** What `setup` found and did, one line each. */
export interface SetupReport {
  readonly steps: readonly {
    readonly what: string;
    /** `optional`: missing, and needed only by VMs that ask for it. */
    readonly status: "ok" | "done" | "missing" | "optional";
    readonly detail: string;
    /** What to do about what is missing. */
    readonly hint?: string;
  }[];
  /** Whether `run` can work now. */
  readonly ready: boolean;
}

/**
 * Everything firectl does. VMs are named by id, unique id prefix, or name. Every method first mends what a
 * killed firectl has left (`reconcile`).
 */
export interface FirectlOperations {
  run(options: RunOptions): Promise<StartedVm>;
  runConfiguration(options: RunConfigurationOptions): Promise<StartedVm>;
  /** Starts a VM that has ended and was kept. */
  start(vm: string, options?: StartOptions): Promise<StartedVm>;
  /** Stops a VM if it runs, and starts it again, detached, on the disk that it left. */
  restart(vm: string, options?: RestartOptions): Promise<VmId>;
  list(options?: ListOptions): Promise<readonly VmSummary[]>;
  stop(vm: string, options?: StopOptions): Promise<VmId>;
  /** With `volumes` the VM's anonymous volumes go, too. */
  remove(vm: string, options?: { force?: boolean; volumes?: boolean }): Promise<VmId>;
  kill(vm: string, signal: string): Promise<VmId>;
  wait(vm: string, options?: { signal?: AbortSignal }): Promise<ExitReport>;
  /**
   * Waits until the VM's health check says `wanted`.
   * @throws FirectlError UNHEALTHY when the VM ends first; INVALID_ARGUMENT when it has no health check.
   */
  waitForHealth(vm: string, wanted: "healthy" | "unhealthy", options?: WaitForHealthOptions): Promise<void>;
  logs(vm: string, options?: LogsOptions): AsyncIterable<LogEntry>;
  /** The guest kernel's and the VMM's own words. */
  consoleLog(vm: string, options?: { follow?: boolean; signal?: AbortSignal }): AsyncIterable<Uint8Array>;
  /** The ports of the host that lead to a VM; none when it does not run. */
  ports(vm: string): Promise<VmSummary["ports"]>;
  /** The record as JSON. */
  inspect(vm: string): Promise<Readonly<Record<string, unknown>>>;
  exec(vm: string, options: ExecOptions): Promise<ExitReport>;
  /** What VMs use and cost, again and again until the signal aborts. */
  stats(options?: StatsOptions): AsyncIterable<readonly VmStats[]>;
  /** The processes of a VM's workload, by pid. */
  processes(vm: string): Promise<readonly ProcessSummary[]>;
  /** Changes a VM's limits: at once if it runs, else from its next start on. */
  update(vm: string, options: UpdateOptions): Promise<VmId>;
  /** Starts a command and leaves it. Reports how it failed to start, undefined when it runs. */
  execDetached(vm: string, options: DetachedExecOptions): Promise<ExitReport | undefined>;
  /** Joins a running workload. Disposing of the session leaves the VM alone. */
  attach(vm: string): Promise<WorkloadSession>;
  /** The VM's filesystem as a tar, whether it runs or not. */
  exportVm(vm: string, options?: ExportOptions): AsyncIterable<Uint8Array>;
  /**
   * Copies what is at a path of a VM to a path of this machine by docker's rules, or, as a tar, piece by piece to a
   * function. A symbolic link at the destination is replaced; one to a directory is refused without a slash after it.
   */
  copyFromVm(
    vm: string,
    source: string,
    destination: string | ((chunk: Uint8Array) => unknown),
    options?: CopyOptions,
  ): Promise<CopyReport>;
  /** Copies what is at a path of this machine, or in a tar, to a path of a VM. */
  copyToVm(
    vm: string,
    source: string | AsyncIterable<Uint8Array>,
    destination: string,
    options?: CopyOptions,
  ): Promise<CopyReport>;
  listKernels(): Promise<readonly KernelSummary[]>;
  addKernel(options: AddKernelOptions): Promise<KernelSummary>;
  buildKernel(options: BuildKernelOptions): Promise<KernelSummary>;
  setDefaultKernel(name: string): Promise<void>;
  removeKernel(name: string): Promise<void>;
  pullImage(reference: string, options?: PullOptions): Promise<ImageSummary>;
  /** Brings in the images of an archive, as docker, podman and skopeo save them. */
  loadImages(source: LoadSource, options?: BringImageOptions): Promise<readonly LoadedImage[]>;
  /** Writes images into one archive. */
  saveImages(references: readonly string[], options: SaveImagesOptions): Promise<void>;
  /** Makes an image of a root filesystem: the path of a tar or directory, or the bytes of a tar. */
  importImage(source: string | AsyncIterable<Uint8Array>, options?: ImportImageOptions): Promise<LoadedImage>;
  listImages(): Promise<readonly ImageSummary[]>;
  /** An image as JSON, in Docker's fields and some of our own. By name, digest, or a beginning of one. */
  inspectImage(reference: string): Promise<Readonly<Record<string, unknown>>>;
  /** Gives an image a further name; returns that in full. */
  tagImage(source: string, target: string): Promise<string>;
  removeImage(reference: string, options?: RemoveImageOptions): Promise<RemovedImage>;
  /** Removes what nobody can use any more. */
  prune(options?: PruneOptions): Promise<PruneReport>;
  createVolume(options?: CreateVolumeOptions): Promise<VolumeSummary>;
  listVolumes(): Promise<readonly VolumeSummary[]>;
  /** @throws FirectlError VOLUME_NOT_FOUND. */
  inspectVolume(name: string): Promise<VolumeSummary>;
  /** @throws FirectlError VOLUME_IN_USE as long as a VM has it, VOLUME_NOT_FOUND. */
  removeVolume(name: string): Promise<void>;
  /** Removes volumes that no VM has. */
  pruneVolumes(options?: PruneVolumesOptions): Promise<PruneVolumesReport>;
  diskUsage(): Promise<readonly DiskUsageItem[]>;
  /** @throws FirectlError AUTHENTICATION_FAILED when the registry refuses, or no login is known. */
  login(options?: LoginOptions): Promise<LoginReport>;
  logout(registry?: string, options?: { signal?: AbortSignal }): Promise<LogoutReport>;
  setup(options?: {
    signal?: AbortSignal;
    onProgress?: (event: ProgressEvent) => void;
  }): Promise<SetupReport>;
  /** Mends records whose processes have gone; with an id, finishes that VM's record once its VMM has ended. */
  reconcile(vm?: string): Promise<void>;
}
