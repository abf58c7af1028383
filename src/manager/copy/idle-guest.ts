import { rm } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../../core/errors.ts";
import type { GuestClient } from "../../guest/client.ts";
import { createControlDrive } from "../../guest/control-drive.ts";
import { CleanupStack } from "../../host/cleanup.ts";
import { withDeadline } from "../../host/deadline.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import { bootVm } from "../boot-vm.ts";
import type { Context } from "../context.ts";
import { killProcesses } from "../destroy-vm.ts";
import { endedStatus } from "../exit-report.ts";
import { connectGuest } from "../guest-access.ts";
import { changeRecord } from "../records.ts";
import { selectVmmAgain } from "../select-vmm.ts";
import { inStage } from "../stage.ts";
import { claimForStart } from "../start-vm.ts";
import { type VmPaths, vmPathsOf } from "../vm-paths.ts";
import { specFor } from "../vm-spec.ts";
import { withMountDrives } from "../volumes/mount-drives.ts";
import { reclaimMounts } from "../volumes/prepare-mounts.ts";

/** The guest has nothing to end: its disks are written and it reboots. */
const END_TIMEOUT_MS = 60_000;
/** Nobody reads the output of a guest that says nothing. */
const OUTPUT_BYTES = 64 * 1024;

/**
 * Boots the guest of a VM that does not run, without its workload, does `work` with it and ends it: the kernel that
 * made the filesystem is the one that changes it. Record, logs and exit status stay what they were.
 * @throws FirectlError WRONG_STATE when somebody else starts or removes it; as the start of a VM does.
 */
export async function withIdleGuest<T>(
  context: Context,
  record: VmRecord,
  options: { readonly signal: AbortSignal | undefined; readonly work: (guest: GuestClient) => Promise<T> },
): Promise<T> {
  const { workload } = record;
  if (record.machine === null || workload === null) {
    throw new FirectlError("UNSUPPORTED", `${record.name} was made from a Firecracker configuration`);
  }
  const { signal } = options;
  const paths = pathsOfIdle(vmPathsOf(context.directories, record.id));
  await using undo = new CleanupStack();
  // Attached: should we be killed, the next firectl ends it and puts the record right.
  const claimed = await claimForStart(context, record, { attached: true });
  undo.defer(async () => {
    await killProcesses(paths);
    for (const file of [paths.runtimeDirectory, ...ownFiles(paths)])
      await rm(file, { recursive: true, force: true });
    await changeRecord(context.vms, record.id, () => record);
  });
  for (const file of ownFiles(paths)) await rm(file, { force: true });
  const mounted = await reclaimMounts(context, claimed);
  // Nothing runs in it that would use one.
  const machine = { ...withMountDrives(record.machine, mounted.drives), network: undefined };
  const vmm = await selectVmmAgain(context, record, { bootSource: machine.bootSource, signal });
  const drives = machine.drives.map((drive) =>
    drive.id === "control" ? { ...drive, path: paths.controlDrive } : drive,
  );
  const spec = specFor({
    id: record.id,
    workload,
    drives,
    mounts: mounted.mounts,
    network: undefined,
    start: { attached: false, terminalSize: undefined },
    isFirst: false,
    idle: true,
  });
  await createControlDrive(paths.controlDrive, { spec, outputBytes: OUTPUT_BYTES });
  await using booted = await inStage(`starting the microVM with ${vmm.name}`, () =>
    bootVm(context, { record: claimed, paths, vmm, machine: { ...machine, drives }, signal }),
  );
  using guest = connectGuest({ ...claimed, process: booted.vmm.process });
  const result = await options.work(guest);
  await guest.shutdown({ signal: 0, graceMs: 0 }, { signal });
  const status = await withDeadline(
    { timeoutMs: END_TIMEOUT_MS, waitingFor: "the guest to write its disks", signal },
    (ending) => booted.watch.until(({ status: last, vmmAlive }) => (vmmAlive ? undefined : { last }), ending),
  );
  if (endedStatus(status.last) === undefined) {
    throw new FirectlError("GUEST_FAILED", "the guest ended before it had written its disks");
  }
  return result;
}

/** The VM's own control drive and console tell of its own runs. */
function pathsOfIdle(paths: VmPaths): VmPaths {
  const own = (name: string) => path.join(paths.directory, name);
  return {
    ...paths,
    controlDrive: own("idle-control.img"),
    console: own("idle-console.log"),
    vmmLog: own("idle-vmm.log"),
  };
}

function ownFiles({ controlDrive, console, vmmLog }: VmPaths): string[] {
  return [controlDrive, console, vmmLog];
}
