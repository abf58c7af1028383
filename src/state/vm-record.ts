import * as z from "zod/mini";
import { mountRecord } from "./mount-record.ts";
import { networkRecord } from "./network-record.ts";
import { rateLimit, resourceRecord } from "./resource-record.ts";

/**
 * The schema of a record in `vms.json`, in zod's small form: every command reads it. Fields of a newer firectl are kept, not dropped.
 * Times are RFC 3339; `null` means "not yet" or "never".
 */
const processIdentity = z.object({
  pid: z.int().check(z.positive()),
  startTime: z.number().check(z.nonnegative()),
});

const drive = z.object({
  id: z.string(),
  path: z.string(),
  device: z.optional(z.enum(["block", "pmem"])),
  readOnly: z.boolean(),
  cache: z.enum(["unsafe", "writeback"]),
  limit: z.optional(rateLimit),
});

const machine = z.object({
  vcpuCount: z.int().check(z.positive()),
  memoryMib: z.int().check(z.positive()),
  bootSource: z.object({
    kernelImagePath: z.string(),
    initrdPath: z.string(),
    kernelArguments: z.array(z.string()),
  }),
  drives: z.array(drive),
  vsock: z.object({ guestCid: z.int(), socketPath: z.string() }),
  network: z.optional(z.object({ macAddress: z.string(), limit: z.optional(rateLimit) })),
  bootSnapshot: z.optional(z.enum(["auto", "never"])),
});

/** Times in milliseconds. */
const healthCheck = z.object({
  args: z.array(z.string()),
  intervalMs: z.number(),
  timeoutMs: z.number(),
  startPeriodMs: z.number(),
  startIntervalMs: z.number(),
  retries: z.int(),
});

/** How the workload's standard streams are attended to, and what stands before it. */
const session = z.object({
  tty: z.boolean(),
  openStdin: z.boolean(),
  /** The input ends with the first who closes it. */
  stdinOnce: z.boolean(),
  init: z.boolean(),
  systemd: z.boolean(),
});

const workload = z.object({
  args: z.array(z.string()),
  env: z.array(z.string()),
  cwd: z.string(),
  user: z.string(),
  hostname: z.string(),
  stopSignal: z.int(),
  readOnly: z.boolean(),
  storage: z.enum(["overlay", "copy"]),
  session: z.optional(session),
  healthCheck: z.optional(healthCheck),
  resources: z.optional(resourceRecord),
});

const vmRecord = z.looseObject({
  id: z.string().check(z.regex(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)),
  name: z.string(),
  imageName: z.string(),
  imageDigest: z.nullable(z.string()),
  state: z.enum(["creating", "running", "exited", "dead", "removing"]),
  vmm: z.nullable(z.enum(["firecracker", "qemu"])),
  firecrackerPid: z.nullable(z.int()),
  vmSocketPath: z.string(),
  rootfsPath: z.string(),
  kernelPath: z.string(),
  createdAt: z.string(),
  startedAt: z.nullable(z.string()),
  finishedAt: z.nullable(z.string()),
  exitCode: z.nullable(z.int()),
  exitSignal: z.nullable(z.int()),
  oomKilled: z.boolean(),
  error: z.nullable(z.string()),
  labels: z.record(z.string(), z.string()),
  /** Fractions are those of the last processor. */
  cpus: z.number(),
  memoryMib: z.int(),
  diskBytes: z.int(),
  stopTimeoutMs: z.int(),
  autoRemove: z.boolean(),
  attached: z.boolean(),
  /** It has ended once and was started again: its disk is somebody's data, which no mending removes. */
  restarted: z.boolean(),
  /** The firectl that works on it: its creator, its remover, or whom an attached VM belongs to. */
  owner: z.nullable(processIdentity),
  process: z.nullable(processIdentity),
  companions: z.array(processIdentity),
  /** Process ids mean nothing after a reboot of the host: /proc/sys/kernel/random/boot_id. */
  hostBootId: z.string(),
  /** What `start` needs; null until known. */
  machine: z.nullable(machine),
  /** Null for a VM made from a Firecracker configuration, which has no agent. */
  workload: z.nullable(workload),
  /** The configuration file of `run --config`. */
  configPath: z.nullable(z.string()),
  /** Sockets outside firectl's directories that the configuration makes the VMM create. */
  configSockets: z.array(z.string()),
  /** What is mounted into the root; absent where nothing is. */
  mounts: z.optional(z.array(mountRecord)),
  network: z.optional(networkRecord),
  /** Its anonymous volumes stay when it is removed. */
  keepVolumes: z.optional(z.boolean()),
});

/** One VM on record. */
export type VmRecord = z.infer<typeof vmRecord>;
/** What the workload is, with image and flags merged. */
export type WorkloadRecord = z.infer<typeof workload>;
/** Docker's HEALTHCHECK with its defaults filled in. */
export type HealthCheckRecord = z.infer<typeof healthCheck>;

/**
 * Reads the text of `vms.json`.
 * @throws Error saying where the text departs from the format.
 */
export function parseVmRecords(text: string): VmRecord[] {
  const result = z.array(vmRecord).safeParse(JSON.parse(text));
  if (!result.success) throw new Error(z.prettifyError(result.error));
  return result.data;
}
