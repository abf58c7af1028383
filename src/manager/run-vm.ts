import { parseDigest } from "../core/brands.ts";
import { mark } from "../core/trace.ts";
import { parseSignal } from "../guest/signals.ts";
import { CleanupStack } from "../host/cleanup.ts";
import type { LocalImage } from "../image/images.ts";
import { locationName, parseImageLocation } from "../image/reference.ts";
import { PMEM_MODULES } from "../kernel/modules.ts";
import type { MountRecord } from "../state/mount-record.ts";
import type { NetworkRecord } from "../state/network-record.ts";
import type { ResourceRecord } from "../state/resource-record.ts";
import type { VmRecord, WorkloadRecord } from "../state/vm-record.ts";
import type { DriveDevice, MachineConfiguration } from "../vmm/vmm.ts";
import type { RunOptions, StartedVm, StartTimings, StorageMode } from "./api.ts";
import { type BootedVm, bootVm, recordAsRunning } from "./boot-vm.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { machineFor, makeControlDrive, makeWritableDisk } from "./disks.ts";
import { finishVm } from "./finish-vm.ts";
import { imageDeviceFor } from "./image-device.ts";
import { obtainImageFilesystem } from "./image-filesystem.ts";
import { sizedMachine } from "./machine-size.ts";
import { networkModules, networkPlanOf, networkRecordFor } from "./network/network-plan.ts";
import { userNetworkDevice } from "./network/user-network.ts";
import { choosePlatform, initramfsWith, type Platform } from "./platform.ts";
import { createRecord } from "./record-for.ts";
import { resourcesOf } from "./resources.ts";
import type { GuestStart } from "./session.ts";
import { shareModules } from "./shares/share-modules.ts";
import { sharesIn } from "./shares/share-processes.ts";
import { bothOrNeither, inStage } from "./stage.ts";
import { AttendedVm, type AttendedVmOptions } from "./started-vm.ts";
import { checkRunOptions, type VmSize } from "./vm-options.ts";
import { type VmPaths, vmPathsOf } from "./vm-paths.ts";
import type { MountPlan } from "./volumes/mount-plan.ts";
import { planMountsOf, prepareMountsOf } from "./volumes/mounts-of-vm.ts";
import type { PreparedMounts } from "./volumes/prepare-mounts.ts";
import { workloadOf } from "./workload.ts";

/**
 * Image → root filesystem → running microVM. When any stage fails or is interrupted, nothing of the VM stays.
 * @throws FirectlError naming the stage; WorkloadStartError when the guest could not start the workload.
 */
export async function runVm(context: Context, options: RunOptions): Promise<StartedVm> {
  const startedAt = performance.now();
  const size = checkRunOptions(options, context.settings);
  const resources = resourcesOf(options.resources ?? {}, size);
  const networkPlan = networkPlanOf(options, context.settings);
  if (options.stopSignal !== undefined) parseSignal(options.stopSignal);
  const imageName = nameOnRecord(options.image);
  await using undo = new CleanupStack();
  const record = await createRecord(context, {
    name: options.name,
    imageName,
    size,
    labels: options.labels ?? {},
    autoRemove: options.autoRemove ?? false,
    attached: !(options.detach ?? false),
  });
  undo.defer(() => destroyVm(context, record.id));
  mark("recorded");

  const plan = await planMountsOf(context, record, options);
  const parts = await obtainParts(context, { ...options, record, size });
  options.signal?.throwIfAborted();
  mark("parts");
  const network = await networkRecordFor(networkPlan, parts.image.config.exposedPorts);
  const { machine, workload, mounts } = await inStage("preparing the VM's disks", () =>
    planMachine(context, { record, options, size, resources, parts, plan, network }),
  );
  const paths = vmPathsOf(context.directories, record.id);
  const { vmm } = parts.platform;
  const prepareMs = performance.now() - startedAt - parts.pullMs - (parts.buildMs ?? 0);
  options.onProgress?.({ kind: "booting", vmm: vmm.name });
  let diskFailure: unknown;
  const booted = await bootVm(context, {
    record,
    paths,
    vmm,
    machine,
    shares: sharesIn(mounts),
    network,
    // They take as long as the VMM's process takes to come up.
    meanwhile: () =>
      makeDisks({
        dataDirectory: context.directories.data,
        paths,
        id: record.id,
        basePath: parts.basePath,
        size,
        machine,
        workload,
        mounts,
        network,
        start: { attached: record.attached, terminalSize: options.terminalSize },
      }).catch((error: unknown) => {
        diskFailure = error;
        throw error;
      }),
    signal: options.signal,
  }).catch((error: unknown) => {
    const stage =
      diskFailure === undefined ? `starting the microVM with ${vmm.name}` : "preparing the VM's disks";
    return inStage(stage, () => Promise.reject(diskFailure ?? error));
  });
  undo.use(booted);
  mark("booted");
  const running = await recordAsRunning(context, {
    id: record.id,
    vmm,
    booted,
    machine,
    known: {
      workload,
      imageName: parts.image.reference,
      imageDigest: parts.image.manifestDigest,
      network,
    },
  });
  undo.move();
  mark("recorded running");
  return attend(context, {
    record: running,
    booted,
    vmm: vmm.name,
    outputPosition: 0,
    timings: timingsOf(booted, { ...parts, prepareMs, totalMs: performance.now() - startedAt }),
  });
}

/**
 * Checks what the user calls the image, before anything is recorded, and makes a path in it absolute: whoever
 * reads the record is in a directory of their own. 64 digits are an image's id, which is no name.
 * @throws FirectlError INVALID_REFERENCE.
 */
function nameOnRecord(text: string): string {
  if (parseDigest(`sha256:${text}`) !== undefined) return text;
  const location = parseImageLocation(text);
  return "path" in location ? locationName(location) : text;
}

interface Parts {
  readonly image: LocalImage;
  readonly basePath: string;
  readonly platform: Platform;
  readonly pullMs: number;
  readonly buildMs: number | undefined;
}

/** The image's filesystem on one side, VMM and kernel on the other, side by side. */
async function obtainParts(
  context: Context,
  options: RunOptions & { record: VmRecord; size: VmSize },
): Promise<Parts> {
  const [filesystem, chosen] = await bothOrNeither(
    options.signal,
    (signal) =>
      obtainImageFilesystem(context, options.image, {
        pull: options.pull ?? "missing",
        platform: options.platform,
        limits: options.limits,
        writableBytes: options.storage === "copy" ? options.size.diskBytes : undefined,
        signal,
        onProgress: options.onProgress,
      }),
    (signal) => inStage("choosing VMM and kernel", () => choosePlatform(context, { ...options, signal })),
  );
  const { image, base, pullMs, buildMs } = filesystem;
  mark("both");
  return { image, basePath: base.path, pullMs, buildMs, platform: chosen };
}

interface PlannedMachine {
  readonly machine: MachineConfiguration;
  readonly workload: WorkloadRecord;
  readonly mounts: PreparedMounts["mounts"];
}

async function planMachine(
  context: Context,
  input: {
    record: VmRecord;
    options: RunOptions;
    size: VmSize;
    resources: ResourceRecord | undefined;
    parts: Parts;
    plan: MountPlan;
    network: NetworkRecord | undefined;
  },
): Promise<PlannedMachine> {
  const { options, parts, size } = input;
  const { config } = parts.image;
  const workload = workloadOf(config, {
    run: options,
    hostname: options.hostname ?? input.record.id.slice(0, 12),
    stopSignal: signalOf(options.stopSignal ?? config.stopSignal),
    resources: input.resources,
  });
  const prepared = await prepareMountsOf(context, { ...input, imageVolumes: config.volumes });
  const unsized = machineFor({
    paths: vmPathsOf(context.directories, input.record.id),
    basePath: parts.basePath,
    storage: workload.storage,
    ...(await attachImage(context, { ...input, mounts: prepared.mounts, storage: workload.storage })),
    kernelPath: parts.platform.kernelPath,
    size,
    kernelArguments: options.kernelArguments ?? [],
    mountDrives: prepared.drives,
    network: input.network && userNetworkDevice(undefined),
    bootSnapshot: options.bootSnapshot ?? context.settings.bootSnapshot,
  });
  const machine = sizedMachine(unsized, { ...size, limits: workload.resources });
  return { machine, workload, mounts: prepared.mounts };
}

async function makeDisks(options: {
  dataDirectory: string;
  paths: VmPaths;
  id: string;
  basePath: string;
  size: VmSize;
  machine: MachineConfiguration;
  workload: WorkloadRecord;
  mounts: PlannedMachine["mounts"];
  network: NetworkRecord | undefined;
  start: GuestStart;
}): Promise<void> {
  const { paths, workload } = options;
  await Promise.all([
    makeWritableDisk({
      paths,
      basePath: options.basePath,
      storage: workload.storage,
      diskBytes: options.size.diskBytes,
      dataDirectory: options.dataDirectory,
    }),
    makeControlDrive({
      paths,
      id: options.id,
      workload,
      drives: options.machine.drives,
      mounts: options.mounts,
      network: options.network,
      logBytes: options.size.logBytes,
      start: options.start,
    }),
  ]);
  mark("disks");
}

/** As what the guest gets the image, and the initramfs that can use it. */
async function attachImage(
  context: Context,
  input: {
    options: RunOptions;
    size: VmSize;
    parts: Parts;
    mounts: readonly MountRecord[];
    network: NetworkRecord | undefined;
    storage: StorageMode;
  },
): Promise<{ imageDevice: DriveDevice; initrdPath: string }> {
  const { vmm, kernel } = input.parts.platform;
  const imageDevice = imageDeviceFor({
    requested: input.options.imageDevice ?? context.settings.imageDevice,
    storage: input.storage,
    vmm,
    kernel,
    basePath: input.parts.basePath,
    memoryMib: input.size.memoryMib,
  });
  const initrdPath = await initramfsWith(context, kernel, [
    ...(imageDevice === "block" ? [] : PMEM_MODULES),
    ...shareModules(sharesIn(input.mounts), kernel),
    ...networkModules(input.network, kernel),
  ]);
  mark("initramfs");
  return { imageDevice, initrdPath };
}

function signalOf(name: string | undefined): number | undefined {
  return name === undefined ? undefined : parseSignal(name);
}

/** Hands a running VM to the caller. A detached one may have ended already, before its record said it ran. */
export async function attend(context: Context, vm: AttendedVmOptions): Promise<StartedVm> {
  if (!vm.record.attached) await finishVm(context, vm.record);
  return new AttendedVm(context, vm);
}

/** Puts host and guest times together; the guest's are claims, and only shown. */
export function timingsOf(
  booted: BootedVm,
  host: Pick<StartTimings, "totalMs" | "prepareMs" | "pullMs"> & { buildMs?: number | undefined },
): StartTimings {
  const guest = booted.status.timings;
  return {
    totalMs: host.totalMs,
    vmmMs: booted.vmmMs,
    ...(host.prepareMs === undefined ? {} : { prepareMs: host.prepareMs }),
    ...(host.pullMs === undefined ? {} : { pullMs: host.pullMs }),
    ...(host.buildMs === undefined ? {} : { buildMs: host.buildMs }),
    ...(guest === undefined
      ? {}
      : {
          earlyMs: Math.max(0, booted.bootMs - Number(guest.workloadStartedUs) / 1000),
          kernelMs: Number(guest.agentStartedUs) / 1000,
          initMs: Number(guest.workloadStartedUs - guest.agentStartedUs) / 1000,
        }),
  };
}
