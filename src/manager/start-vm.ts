import { FirectlError } from "../core/errors.ts";
import { CleanupStack } from "../host/cleanup.ts";
import { ownIdentity } from "../host/process-identity.ts";
import type { VmRecord, WorkloadRecord } from "../state/vm-record.ts";
import type { StartedVm, StartOptions } from "./api.ts";
import { bootVm, recordAsRunning } from "./boot-vm.ts";
import type { Context } from "./context.ts";
import { killProcesses } from "./destroy-vm.ts";
import { renewOrders } from "./disks.ts";
import { sizedMachine } from "./machine-size.ts";
import { networkRecordAgain } from "./network/network-plan.ts";
import { changeRecord, hostBootId, requireState } from "./records.ts";
import { attend, timingsOf } from "./run-vm.ts";
import { selectVmmAgain } from "./select-vmm.ts";
import { sharesIn } from "./shares/share-processes.ts";
import { inStage } from "./stage.ts";
import { vmPathsOf } from "./vm-paths.ts";
import { withMountDrives } from "./volumes/mount-drives.ts";
import { reclaimMountsOf } from "./volumes/mounts-of-vm.ts";

/**
 * Starts a VM that has ended, on the disk that it left, with the kernel it had. When that fails, the VM is as
 * it was before.
 * @throws FirectlError WRONG_STATE when it runs, UNSUPPORTED when it was made from a Firecracker configuration.
 */
export async function startVm(
  context: Context,
  record: VmRecord,
  options: StartOptions & {
    /** Whether it is to be removed at its end; as is on record when absent. */
    readonly autoRemove?: boolean;
  },
): Promise<StartedVm> {
  const startedAt = performance.now();
  requireState(record, "start", ["exited", "dead"]);
  const { machine: recorded, workload } = requireImage(record);
  const paths = vmPathsOf(context.directories, record.id);
  await using undo = new CleanupStack();
  const claimed = await claimForStart(context, record, {
    attached: !(options.detach ?? false),
    ...(options.autoRemove === undefined ? {} : { autoRemove: options.autoRemove }),
  });
  undo.defer(async () => {
    await killProcesses(paths);
    await changeRecord(context.vms, record.id, () => record);
  });
  const mounted = await reclaimMountsOf(context, claimed);
  const network = await networkRecordAgain(claimed.network);
  // What `update` has changed meanwhile counts from here on.
  const machine = sizedMachine(withMountDrives(recorded, mounted.drives), {
    ...claimed,
    limits: claimed.workload?.resources,
  });
  const vmm = await selectVmmAgain(context, record, {
    bootSource: machine.bootSource,
    signal: options.signal,
  });
  const outputPosition = await inStage("preparing the VM's disks", () =>
    renewOrders({
      paths,
      id: record.id,
      workload,
      drives: machine.drives,
      mounts: mounted.mounts,
      network,
      start: { attached: claimed.attached, terminalSize: options.terminalSize },
    }),
  );
  const prepareMs = performance.now() - startedAt;
  options.onProgress?.({ kind: "booting", vmm: vmm.name });
  const booted = await inStage(`starting the microVM with ${vmm.name}`, () =>
    bootVm(context, {
      record: claimed,
      paths,
      vmm,
      machine,
      shares: sharesIn(mounted.mounts),
      network,
      signal: options.signal,
    }),
  );
  undo.use(booted);
  const running = await recordAsRunning(context, { id: record.id, vmm, booted, machine, known: { network } });
  undo.move();
  return attend(context, {
    record: running,
    booted,
    vmm: vmm.name,
    outputPosition,
    timings: timingsOf(booted, { prepareMs, totalMs: performance.now() - startedAt }),
  });
}

/**
 * What a VM of an image was made as.
 * @throws FirectlError UNSUPPORTED when it was made from a Firecracker configuration.
 */
export function requireImage({ name, machine, workload, configPath }: VmRecord): {
  readonly machine: NonNullable<VmRecord["machine"]>;
  readonly workload: WorkloadRecord;
} {
  if (machine !== null && workload !== null) return { machine, workload };
  throw new FirectlError("UNSUPPORTED", `${name} was made from a Firecracker configuration`, {
    hint: `run it anew: firectl run --config ${configPath ?? "FILE"}`,
  });
}

/** Makes the VM this process's to start; of two that try at once, one succeeds. */
export async function claimForStart(
  context: Context,
  record: VmRecord,
  options: { attached: boolean; autoRemove?: boolean },
): Promise<VmRecord> {
  const claimed = await changeRecord(context.vms, record.id, (current) => {
    requireState(current, "start", ["exited", "dead"]);
    return {
      ...current,
      state: "creating",
      ...options,
      restarted: true,
      owner: ownIdentity(),
      hostBootId: hostBootId(),
    };
  });
  if (claimed === undefined) throw new FirectlError("VM_NOT_FOUND", `${record.name} has been removed`);
  return claimed;
}
