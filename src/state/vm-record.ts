import { z } from "zod";

/**
 * The schema of a record in `vms.json`. Fields of a newer firectl are kept, not dropped.
 * Times are RFC 3339; `null` means "not yet" or "never".
 */
const processIdentity = z.object({ pid: z.int().positive(), startTime: z.number().nonnegative() });

const drive = z.object({
  id: z.string(),
  path: z.string(),
  readOnly: z.boolean(),
  cache: z.enum(["unsafe", "writeback"]),
});

const machine = z.object({
  vcpuCount: z.int().positive(),
  memoryMib: z.int().positive(),
  bootSource: z.object({
    kernelImagePath: z.string(),
    initrdPath: z.string(),
    kernelArguments: z.array(z.string()),
  }),
  drives: z.array(drive),
  vsock: z.object({ guestCid: z.int(), socketPath: z.string() }),
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
});

const vmRecord = z.looseObject({
  id: z.string().regex(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
  name: z.string(),
  imageName: z.string(),
  imageDigest: z.string().nullable(),
  state: z.enum(["creating", "running", "exited", "dead", "removing"]),
  vmm: z.enum(["firecracker", "qemu"]).nullable(),
  firecrackerPid: z.int().nullable(),
  vmSocketPath: z.string(),
  rootfsPath: z.string(),
  kernelPath: z.string(),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  finishedAt: z.string().nullable(),
  exitCode: z.int().nullable(),
  exitSignal: z.int().nullable(),
  oomKilled: z.boolean(),
  error: z.string().nullable(),
  labels: z.record(z.string(), z.string()),
  cpus: z.int(),
  memoryMib: z.int(),
  diskBytes: z.int(),
  stopTimeoutMs: z.int(),
  autoRemove: z.boolean(),
  attached: z.boolean(),
  /** It has ended once and was started again: its disk is somebody's data, which no mending removes. */
  restarted: z.boolean(),
  /** The firectl that works on it: its creator, its remover, or whom an attached VM belongs to. */
  owner: processIdentity.nullable(),
  process: processIdentity.nullable(),
  companions: z.array(processIdentity),
  /** Process ids mean nothing after a reboot of the host: /proc/sys/kernel/random/boot_id. */
  hostBootId: z.string(),
  /** What `start` needs; null until known. */
  machine: machine.nullable(),
  /** Null for a VM made from a Firecracker configuration, which has no agent. */
  workload: workload.nullable(),
  /** The configuration file of `run --config`. */
  configPath: z.string().nullable(),
  /** Sockets outside firectl's directories that the configuration makes the VMM create. */
  configSockets: z.array(z.string()),
});

/** One VM on record. */
export type VmRecord = z.infer<typeof vmRecord>;
/** What the workload is, with image and flags merged. */
export type WorkloadRecord = z.infer<typeof workload>;

/**
 * Reads the text of `vms.json`.
 * @throws Error saying where the text departs from the format.
 */
export function parseVmRecords(text: string): VmRecord[] {
  const result = z.array(vmRecord).safeParse(JSON.parse(text));
  if (!result.success) throw new Error(z.prettifyError(result.error));
  return result.data;
}
