import type { VmId } from "../core/brands.ts";
import type { VmState } from "./api.ts";

/** What a VM uses and costs, at one moment. */
export interface VmStats {
  readonly id: VmId;
  readonly name: string;
  readonly state: VmState;
  /** What the workload uses of its guest; undefined when that does not run or does not answer. */
  readonly guest: GuestUse | undefined;
  /** What the VM costs this host; undefined when it does not run. */
  readonly host: HostCost | undefined;
  /** Blocks of the VM's own disks. */
  readonly diskBytes: number;
}

/** The workload's use, with what exec has started; amounts since the guest's boot. */
export interface GuestUse {
  /** 100 is one processor; undefined until it has been looked at twice. */
  readonly cpuPercent: number | undefined;
  readonly cpuMs: number;
  /** How long it was held back by `--cpus`. */
  readonly throttledMs: number;
  readonly processors: number;
  readonly memoryBytes: number;
  /** What it may have; the guest's whole memory is `guestMemoryBytes`. */
  readonly memoryLimitBytes: number;
  readonly pageCacheBytes: number;
  readonly swapBytes: number;
  readonly guestMemoryBytes: number;
  readonly guestAvailableBytes: number;
  readonly pids: number;
  /** 0 is none. */
  readonly pidsLimit: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
  readonly oomKills: number;
  /** Undefined without a network. */
  readonly network: InterfaceUse | undefined;
}

/** What a guest's interface has carried since the guest's boot. */
export interface InterfaceUse {
  readonly receivedBytes: number;
  readonly receivedPackets: number;
  readonly receiveErrors: number;
  readonly receiveDrops: number;
  readonly sentBytes: number;
  readonly sentPackets: number;
  readonly sendErrors: number;
  readonly sendDrops: number;
}

/** The cost of a VM's VMM and what belongs to it. */
export interface HostCost {
  readonly cpuPercent: number | undefined;
  readonly cpuMs: number;
  /** Shared pages count in parts. */
  readonly memoryBytes: number;
}

export interface StatsOptions {
  /** Names or ids; all that run when absent. */
  readonly vms?: readonly string[];
  /** Those that do not run too. */
  readonly all?: boolean;
  /** From one look to the next; 1000 when absent. */
  readonly intervalMs?: number;
  readonly signal?: AbortSignal;
}

/** One process of a workload; ids are those that the workload itself sees. */
export interface ProcessSummary {
  readonly pid: number;
  readonly parentPid: number;
  readonly uid: number;
  /** From the image's passwd; the number when it is not there. */
  readonly user: string;
  /** One letter: R running, S sleeping, Z zombie, … */
  readonly state: string;
  /** As in `pts/0`; undefined without one. */
  readonly terminal: string | undefined;
  readonly startedAtMs: number;
  readonly cpuMs: number;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  readonly nice: number;
  readonly threads: number;
  /** The kernel's name of it, at most 15 bytes. */
  readonly name: string;
  /** argv; none for a zombie. */
  readonly args: readonly string[];
}
