import { FirectlError } from "../core/errors.ts";
import { GIB, MIB } from "../core/units.ts";
import type { ResourceRecord } from "../state/resource-record.ts";
import type { RateLimit } from "../vmm/vmm.ts";
import { capabilitiesOf } from "./capabilities.ts";

/** A limit of one kind; `-1` is none. */
export interface Ulimit {
  readonly soft: number;
  readonly hard: number;
}

/** What `run` limits and allows beyond processors and memory, in docker's words. */
export interface ResourceOptions {
  /** Memory and swap together, as docker has it; no swap when absent or equal to the memory. */
  readonly memorySwapBytes?: number;
  /** Processes and threads of the workload; 0 or -1 is what the guest can manage. */
  readonly pidsLimit?: number;
  /** By docker's names: `nofile`, `nproc`, … */
  readonly ulimits?: Readonly<Record<string, Ulimit>>;
  /** Settings of the guest's kernel. */
  readonly sysctls?: Readonly<Record<string, string>>;
  /** With or without `CAP_`; `ALL` is all that there are. */
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  /** All capabilities and devices, nothing masked. */
  readonly privileged?: boolean;
  readonly noNewPrivileges?: boolean;
  /** Nothing of /proc and /sys is hidden or read-only. */
  readonly unmasked?: boolean;
  /** -1000 to 1000. */
  readonly oomScoreAdj?: number;
  /** Names or numbers. */
  readonly groupAdd?: readonly string[];
  readonly domainname?: string;
  readonly extraHosts?: ReadonlyArray<{ readonly name: string; readonly address: string }>;
  readonly dns?: readonly string[];
  /** The host's, with a network, when absent. */
  readonly dnsSearch?: readonly string[];
  readonly dnsOptions?: readonly string[];
  /** Of each of the VM's disks, reads and writes together, by the second. */
  readonly diskBytesPerSecond?: number;
  readonly diskOperationsPerSecond?: number;
  /** Of what the VM sends and of what it receives, each by itself. */
  readonly networkBytesPerSecond?: number;
  readonly networkPacketsPerSecond?: number;
}

/** Those that `update` can change, too. */
export type ChangeableLimits = Pick<
  ResourceOptions,
  | "memorySwapBytes"
  | "pidsLimit"
  | "diskBytesPerSecond"
  | "diskOperationsPerSecond"
  | "networkBytesPerSecond"
  | "networkPacketsPerSecond"
>;

/** Docker's names of limits: https://github.com/docker/go-units/blob/master/ulimit.go */
const ULIMITS: ReadonlySet<string> = new Set([
  ...["core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"],
  ...["rtprio", "rttime", "sigpending", "stack"],
]);

/** Docker's period, in which a workload gets its share of each processor. */
const CPU_PERIOD_US = 100_000;
const MAX_SWAP_BYTES = 1024 * GIB;
/** Less, and a kernel takes longer to boot than anyone waits. */
const LEAST_DISK_BYTES_PER_SECOND = 64 * 1024;
const LEAST_DISK_OPERATIONS_PER_SECOND = 16;
/** The largest frame: with less, one of them would hold up the others for seconds. */
const LEAST_NETWORK_BYTES_PER_SECOND = 64 * 1024;
const LEAST_NETWORK_PACKETS_PER_SECOND = 16;

/**
 * What goes on record of the limits; undefined when nothing is limited beyond the machine's size.
 * @throws FirectlError INVALID_ARGUMENT naming flag and value.
 */
export function resourcesOf(
  options: ResourceOptions,
  size: { readonly cpus: number; readonly memoryMib: number },
): ResourceRecord | undefined {
  const { capabilities, allCapabilities } = capabilitiesOf(options);
  const record: ResourceRecord = {
    ...present("cpuQuotaUs", cpuQuotaOf(size.cpus, Math.ceil(size.cpus))),
    ...present("swapBytes", swapOf(options.memorySwapBytes, size.memoryMib)),
    ...present("pidsLimit", pidsLimitOf(options.pidsLimit)),
    ...present("oomScoreAdj", inRange("--oom-score-adj", options.oomScoreAdj, { min: -1000, max: 1000 })),
    ...present("ulimits", ulimitsOf(options.ulimits)),
    ...present("sysctls", sysctlsOf(options.sysctls)),
    ...present("capabilities", capabilities),
    ...(allCapabilities ? { allCapabilities } : {}),
    ...(options.noNewPrivileges === true ? { noNewPrivileges: true } : {}),
    ...(options.unmasked === true || options.privileged === true ? { unmasked: true } : {}),
    ...(options.privileged === true ? { allDevices: true } : {}),
    ...present("groups", nonEmpty(options.groupAdd)),
    ...present("domain", options.domainname),
    ...present("hosts", nonEmpty(options.extraHosts)),
    ...present("dns", nonEmpty(options.dns)),
    ...present("dnsSearch", options.dnsSearch && [...options.dnsSearch]),
    ...present("dnsOptions", nonEmpty(options.dnsOptions)),
    ...present("diskLimit", diskLimitOf(options)),
    ...present("networkLimit", networkLimitOf(options)),
  };
  return Object.keys(record).length === 0 ? undefined : record;
}

/** Microseconds in each 100 ms for less than all of the machine's processors; undefined for all of them. */
export function cpuQuotaOf(cpus: number, vcpuCount: number): number | undefined {
  return cpus < vcpuCount ? Math.max(1000, Math.round(cpus * CPU_PERIOD_US)) : undefined;
}

/** Bytes of swap beside so much memory, by docker's flag, which counts both. */
export function swapOf(memorySwapBytes: number | undefined, memoryMib: number): number | undefined {
  if (memorySwapBytes === undefined) return undefined;
  const swap = memorySwapBytes - memoryMib * MIB;
  if (memorySwapBytes < 0 || memorySwapBytes > MAX_SWAP_BYTES) {
    throw new FirectlError("INVALID_ARGUMENT", `--memory-swap: ${memorySwapBytes} is not an amount of swap`, {
      hint: "name memory and swap together, for example -m 512m --memory-swap 1g: a VM's swap is on its own disk and has a size",
    });
  }
  if (swap < 0) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `--memory-swap: ${memorySwapBytes} bytes are less than the memory, ${memoryMib * MIB}`,
      { hint: "it is memory and swap together, as in docker" },
    );
  }
  return swap < MIB ? undefined : swap;
}

/** Docker's 0 and -1 are no limit. */
export function pidsLimitOf(limit: number | undefined): number | undefined {
  const checked = inRange("--pids-limit", limit, { min: -1, max: 4_194_304 });
  return checked === undefined || checked <= 0 ? undefined : checked;
}

/** The limit of each disk; 0 of either is none. */
export function diskLimitOf(
  options: Pick<ResourceOptions, "diskBytesPerSecond" | "diskOperationsPerSecond">,
): RateLimit | undefined {
  return rateLimitOf(
    { flag: "--disk-bps", value: options.diskBytesPerSecond, min: LEAST_DISK_BYTES_PER_SECOND },
    { flag: "--disk-iops", value: options.diskOperationsPerSecond, min: LEAST_DISK_OPERATIONS_PER_SECOND },
  );
}

/** The limit of the interface's directions; 0 of either is none. */
export function networkLimitOf(
  options: Pick<ResourceOptions, "networkBytesPerSecond" | "networkPacketsPerSecond">,
): RateLimit | undefined {
  return rateLimitOf(
    { flag: "--network-bps", value: options.networkBytesPerSecond, min: LEAST_NETWORK_BYTES_PER_SECOND },
    { flag: "--network-pps", value: options.networkPacketsPerSecond, min: LEAST_NETWORK_PACKETS_PER_SECOND },
  );
}

interface Rate {
  readonly flag: string;
  readonly value: number | undefined;
  readonly min: number;
}

function rateLimitOf(bytes: Rate, operations: Rate): RateLimit | undefined {
  const checked = ({ flag, value, min }: Rate): number | undefined =>
    value === 0 ? undefined : inRange(flag, value, { min, max: Number.MAX_SAFE_INTEGER });
  const limit: RateLimit = {
    ...present("bytesPerSecond", checked(bytes)),
    ...present("operationsPerSecond", checked(operations)),
  };
  return Object.keys(limit).length === 0 ? undefined : limit;
}

function ulimitsOf(ulimits: ResourceOptions["ulimits"]): ResourceRecord["ulimits"] | undefined {
  const entries = Object.entries(ulimits ?? {});
  for (const [name, { soft, hard }] of entries) {
    if (!ULIMITS.has(name)) {
      throw new FirectlError("INVALID_ARGUMENT", `--ulimit: there is no limit "${name}"`, {
        hint: `one of ${[...ULIMITS].join(", ")}`,
      });
    }
    if (hard !== -1 && (soft === -1 || soft > hard)) {
      throw new FirectlError(
        "INVALID_ARGUMENT",
        `--ulimit: ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`,
      );
    }
  }
  return entries.length === 0
    ? undefined
    : entries.map(([name, { soft, hard }]) => ({ type: `RLIMIT_${name.toUpperCase()}`, soft, hard }));
}

function sysctlsOf(sysctls: ResourceOptions["sysctls"]): Record<string, string> | undefined {
  const names = Object.keys(sysctls ?? {});
  const bad = names.find((name) => !/^[\w-]+([./][\w*:@-]+)+$/.test(name));
  if (bad !== undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `--sysctl: "${bad}" is not the name of a sysctl`, {
      hint: "write --sysctl net.core.somaxconn=1024",
    });
  }
  return names.length === 0 ? undefined : { ...sysctls };
}

function inRange(
  flag: string,
  value: number | undefined,
  range: { readonly min: number; readonly max: number },
): number | undefined {
  if (value === undefined) return undefined;
  if (Number.isSafeInteger(value) && value >= range.min && value <= range.max) return value;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `${flag}: ${value} is not a whole number from ${range.min} to ${range.max}`,
  );
}

function present<Key extends string, Value>(
  key: Key,
  value: Value | undefined,
): { readonly [K in Key]?: Value } {
  // The computed key is `key` itself, which TypeScript widens to any string.
  return value === undefined ? {} : ({ [key]: value } as { readonly [K in Key]?: Value });
}

function nonEmpty<Item>(list: readonly Item[] | undefined): Item[] | undefined {
  return list === undefined || list.length === 0 ? undefined : [...list];
}
