import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import { changeFirecracker } from "../firecracker/change.ts";
import { changeQemu, noNetworkLimit } from "../qemu/change.ts";
import type { ResourceRecord } from "../state/resource-record.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { MachineChange } from "../vmm/vmm.ts";
import type { Context } from "./context.ts";
import { connectGuest } from "./guest-access.ts";
import { limitedDrives } from "./machine-size.ts";
import { changeRecord, isVmmAlive, requireState } from "./records.ts";
import {
  type ChangeableLimits,
  cpuQuotaOf,
  diskLimitOf,
  networkLimitOf,
  pidsLimitOf,
  swapOf,
} from "./resources.ts";
import { checkCpus, checkMemory } from "./vm-options.ts";

/** What `update` changes; what is absent stays. */
export interface UpdateOptions extends ChangeableLimits {
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly signal?: AbortSignal;
}

const CALL_TIMEOUT_MS = 30_000;

/**
 * Changes a VM's limits: at once if it runs, else from its next start on.
 * @throws FirectlError WRONG_STATE when a running VM uses more memory than it would be left with or would need
 *   more than it has booted with; UNSUPPORTED for a VM made from a Firecracker configuration.
 */
export async function updateVm(context: Context, record: VmRecord, options: UpdateOptions): Promise<void> {
  requireState(record, "update", ["running", "exited", "dead"]);
  if (record.machine === null || record.workload === null) {
    throw new FirectlError("UNSUPPORTED", `${record.name} was made from a Firecracker configuration`, {
      hint: "change the configuration, and run it anew",
    });
  }
  if (changesNetwork(options) && record.network === undefined) {
    throw new FirectlError("UNSUPPORTED", `${record.name} has no network to limit`, {
      hint: "run it anew, with --network user",
    });
  }
  const changed = changedRecord(record, options);
  // Before anything is changed; and a VM that is started again has the VMM that it had.
  if (record.vmm === "qemu" && changed.workload?.resources?.networkLimit !== undefined)
    throw noNetworkLimit();
  if (record.state === "running") await changeRunning(record, { changed, options });
  await changeRecord(context.vms, record.id, (current) => {
    requireState(current, "update", ["running", "exited", "dead"]);
    return changedRecord(current, options);
  });
}

/** The record with its new limits. */
function changedRecord(record: VmRecord, options: UpdateOptions): VmRecord {
  const { machine, workload } = record;
  if (machine === null || workload === null) return record;
  const cpus = options.cpus === undefined ? record.cpus : checkCpus(options.cpus);
  const memoryMib = options.memoryBytes === undefined ? record.memoryMib : checkMemory(options.memoryBytes);
  const { cpuQuotaUs: _, ...kept } = workload.resources ?? {};
  const vcpus = record.state === "running" ? machine.vcpuCount : Math.ceil(cpus);
  const quota = cpuQuotaOf(cpus, vcpus);
  const resources: ResourceRecord = {
    ...kept,
    ...(quota === undefined ? {} : { cpuQuotaUs: quota }),
    ...(options.pidsLimit === undefined ? {} : { pidsLimit: pidsLimitOf(options.pidsLimit) }),
    ...(options.memorySwapBytes === undefined
      ? {}
      : { swapBytes: swapOf(options.memorySwapBytes, memoryMib) }),
    ...diskLimitChange(kept.diskLimit, options),
    ...networkLimitChange(kept.networkLimit, options),
  };
  return { ...record, cpus, memoryMib, workload: { ...workload, resources } };
}

function diskLimitChange(
  before: ResourceRecord["diskLimit"],
  options: UpdateOptions,
): Pick<ResourceRecord, "diskLimit"> {
  const { diskBytesPerSecond, diskOperationsPerSecond } = options;
  if (!changesDisks(options)) return {};
  const diskLimit = diskLimitOf({
    diskBytesPerSecond: diskBytesPerSecond ?? before?.bytesPerSecond ?? 0,
    diskOperationsPerSecond: diskOperationsPerSecond ?? before?.operationsPerSecond ?? 0,
  });
  return { diskLimit };
}

function networkLimitChange(
  before: ResourceRecord["networkLimit"],
  options: UpdateOptions,
): Pick<ResourceRecord, "networkLimit"> {
  const { networkBytesPerSecond, networkPacketsPerSecond } = options;
  if (!changesNetwork(options)) return {};
  const networkLimit = networkLimitOf({
    networkBytesPerSecond: networkBytesPerSecond ?? before?.bytesPerSecond ?? 0,
    networkPacketsPerSecond: networkPacketsPerSecond ?? before?.operationsPerSecond ?? 0,
  });
  return { networkLimit };
}

function changesDisks(options: UpdateOptions): boolean {
  return options.diskBytesPerSecond !== undefined || options.diskOperationsPerSecond !== undefined;
}

function changesNetwork(options: UpdateOptions): boolean {
  return options.networkBytesPerSecond !== undefined || options.networkPacketsPerSecond !== undefined;
}

async function changeRunning(
  record: VmRecord,
  { changed, options }: { changed: VmRecord; options: UpdateOptions },
): Promise<void> {
  const { machine } = record;
  if (machine === null) return;
  const restart = `firectl stop --keep ${record.name}, then this again, then firectl start ${record.name}`;
  const refuse = (flag: string, reason: string): FirectlError =>
    new FirectlError("WRONG_STATE", `${flag}: ${record.name} runs ${reason}`, { hint: restart });
  if (changed.cpus > machine.vcpuCount) {
    const processors = `${machine.vcpuCount} processor${machine.vcpuCount === 1 ? "" : "s"}`;
    throw refuse("--cpus", `with ${processors}, and can have no more until it is started again`);
  }
  if (changed.memoryMib > machine.memoryMib)
    throw refuse("--memory", `with ${machine.memoryMib} MiB, and can have no more until it is started again`);
  if (options.memorySwapBytes !== undefined)
    throw refuse("--memory-swap", "with the swap that it has, until it is started again");

  const returnedMib = machine.memoryMib - changed.memoryMib;
  const memoryChanges = options.memoryBytes !== undefined;
  // Memory is taken from the workload first and given to it last: the balloon has only what is free.
  const grows = memoryChanges && changed.memoryMib >= record.memoryMib;
  const { diskLimit = {}, networkLimit = {} } = changed.workload?.resources ?? {};
  const vmmChange: MachineChange = {
    ...(memoryChanges ? { balloonMib: returnedMib } : {}),
    ...(changesDisks(options)
      ? { driveLimits: Object.fromEntries(limitedDrives(machine).map((id) => [id, diskLimit])) }
      : {}),
    ...(changesNetwork(options) ? { networkLimit } : {}),
  };
  const guestChange = {
    ...(options.cpus === undefined ? {} : { cpuQuotaUs: changed.workload?.resources?.cpuQuotaUs ?? 0 }),
    ...(options.pidsLimit === undefined ? {} : { pidsLimit: changed.workload?.resources?.pidsLimit ?? 0 }),
    ...(memoryChanges ? { returnedMemoryBytes: BigInt(returnedMib * MIB) } : {}),
  };
  const steps = [
    () => changeGuest(record, guestChange, options.signal),
    () => changeVmm(record, { ...vmmChange, memoryMib: machine.memoryMib }, options.signal),
  ];
  for (const step of grows ? steps.reverse() : steps) await step();
}

async function changeGuest(
  record: VmRecord,
  change: { cpuQuotaUs?: number; pidsLimit?: number; returnedMemoryBytes?: bigint },
  signal: AbortSignal | undefined,
): Promise<void> {
  if (Object.keys(change).length === 0) return;
  using guest = connectGuest(record);
  await guest.update(change, { signal, timeoutMs: CALL_TIMEOUT_MS });
}

async function changeVmm(
  record: VmRecord,
  change: MachineChange & { readonly memoryMib: number },
  signal: AbortSignal | undefined,
): Promise<void> {
  const { memoryMib: _, ...changes } = change;
  if (Object.keys(changes).length === 0) return;
  if (!isVmmAlive(record)) throw new FirectlError("WRONG_STATE", `${record.name} has just ended`);
  const options = { timeoutMs: CALL_TIMEOUT_MS, signal };
  if (record.vmm === "qemu") await changeQemu(record.vmSocketPath, change, options);
  else await changeFirecracker(record.vmSocketPath, change, options);
}
