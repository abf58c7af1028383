import type { VmId } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { mark } from "../core/trace.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type {
  AddKernelOptions,
  BringImageOptions,
  BuildKernelOptions,
  CopyOptions,
  CopyReport,
  CreateVolumeOptions,
  DetachedExecOptions,
  DiskUsageItem,
  ExecOptions,
  ExitReport,
  ExportOptions,
  FirectlOperations,
  HealthStatus,
  ImageSummary,
  ImportImageOptions,
  KernelSummary,
  ListOptions,
  LoadedImage,
  LoadSource,
  LogEntry,
  LoginOptions,
  LoginReport,
  LogoutReport,
  LogsOptions,
  ProgressEvent,
  PruneOptions,
  PruneReport,
  PruneVolumesOptions,
  PruneVolumesReport,
  PullOptions,
  RemovedImage,
  RemoveImageOptions,
  RestartOptions,
  RunConfigurationOptions,
  RunOptions,
  SaveImagesOptions,
  SetupReport,
  StartedVm,
  StartOptions,
  StopOptions,
  VmSummary,
  VolumeSummary,
  WaitForHealthOptions,
  WorkloadSession,
} from "./api.ts";
import type { Context } from "./context.ts";
import { type OpenOptions, openContext } from "./open-context.ts";
import { reconcile } from "./reconcile.ts";
import { requireState, vmIdOf } from "./records.ts";
import type { ProcessSummary, StatsOptions, VmStats } from "./stats-api.ts";
import type { UpdateOptions } from "./update-vm.ts";
import { findByReference } from "./vm-names.ts";

/**
 * Everything firectl does, for programs. Operations load their own machinery when first used, so that asking
 * for a list costs no more than reading one.
 */
export class Firectl implements FirectlOperations {
  readonly #context: Context;

  private constructor(context: Context) {
    this.#context = context;
  }

  /**
   * Firectl for this user and environment. Creates nothing before the first operation needs it.
   * @throws FirectlError INVALID_CONFIGURATION when `config.json` or a directory variable is wrong.
   */
  static async open(options: OpenOptions = {}): Promise<Firectl> {
    return new Firectl(await openContext(options));
  }

  async run(options: RunOptions): Promise<StartedVm> {
    mark("opened");
    await reconcile(this.#context);
    mark("reconciled");
    const { runVm } = await import("./run-vm.ts");
    mark("loaded");
    return runVm(this.#context, options);
  }

  async runConfiguration(options: RunConfigurationOptions): Promise<StartedVm> {
    await reconcile(this.#context);
    const { runConfiguredVm } = await import("./configured-vm.ts");
    return runConfiguredVm(this.#context, options);
  }

  async start(vm: string, options: StartOptions = {}): Promise<StartedVm> {
    const record = await this.#find(vm);
    const { startVm } = await import("./start-vm.ts");
    return startVm(this.#context, record, options);
  }

  async restart(vm: string, options: RestartOptions = {}): Promise<VmId> {
    const record = await this.#find(vm);
    const { restartVm } = await import("./restart-vm.ts");
    await restartVm(this.#context, record, options);
    return vmIdOf(record);
  }

  async list(options: ListOptions = {}): Promise<readonly VmSummary[]> {
    const records = await reconcile(this.#context);
    const chosen = records.filter(({ state }) => (options.all ?? false) || state === "running");
    const shown = options.images === undefined ? chosen : await this.#madeFrom(chosen, options.images);
    return Promise.all(shown.map(async (record) => summaryOf(record, await this.#healthOf(record))));
  }

  async stop(vm: string, options: StopOptions = {}): Promise<VmId> {
    const record = await this.#find(vm);
    const { stopVm } = await import("./stop-vm.ts");
    await stopVm(this.#context, record, options);
    return vmIdOf(record);
  }

  async remove(vm: string, options: { force?: boolean; volumes?: boolean } = {}): Promise<VmId> {
    const record = await this.#find(vm);
    const force = options.force ?? false;
    if (record.state === "running" && !force) {
      throw new FirectlError("WRONG_STATE", `cannot remove ${record.name}: it is running`, {
        hint: `firectl stop ${record.name}, or firectl rm -f ${record.name}`,
      });
    }
    if (record.state === "creating") requireState(record, "remove", ["exited", "dead"]);
    const { destroyVm } = await import("./destroy-vm.ts");
    const keepVolumes = !(options.volumes ?? false) && !record.autoRemove;
    const mayGo = (current: VmRecord): boolean => force || current.state !== "running";
    await destroyVm(this.#context, record.id, mayGo, { keepVolumes });
    return vmIdOf(record);
  }

  async kill(vm: string, signal: string): Promise<VmId> {
    const record = await this.#find(vm);
    const { killVm } = await import("./kill-vm.ts");
    await killVm(this.#context, record, signal);
    return vmIdOf(record);
  }

  async wait(vm: string, options: { signal?: AbortSignal } = {}): Promise<ExitReport> {
    const record = await this.#find(vm);
    const { waitForVm } = await import("./wait-vm.ts");
    return waitForVm(this.#context, record, options);
  }

  async waitForHealth(
    vm: string,
    wanted: "healthy" | "unhealthy",
    options: WaitForHealthOptions = {},
  ): Promise<void> {
    const record = await this.#find(vm);
    const { waitForHealth } = await import("./health.ts");
    await waitForHealth(this.#context, record, { ...options, wanted });
  }

  async *logs(vm: string, options: LogsOptions = {}): AsyncIterable<LogEntry> {
    const record = await this.#find(vm);
    const { readLogs } = await import("./logs.ts");
    yield* readLogs(this.#context, record, options);
  }

  async *consoleLog(
    vm: string,
    options: { follow?: boolean; signal?: AbortSignal } = {},
  ): AsyncIterable<Uint8Array> {
    const record = await this.#find(vm);
    const { readConsole } = await import("./logs.ts");
    yield* readConsole(this.#context, record, options);
  }

  async ports(vm: string): Promise<VmSummary["ports"]> {
    return portsOf(await this.#find(vm));
  }

  async inspect(vm: string): Promise<Readonly<Record<string, unknown>>> {
    const record = await this.#find(vm);
    const { withDockerMounts } = await import("./volumes/inspect-mounts.ts");
    const { networkSettings } = await import("./network/inspect-network.ts");
    const shown = { ...withDockerMounts(this.#context, record), NetworkSettings: networkSettings(record) };
    if (record.workload?.healthCheck === undefined) return shown;
    const { readHealth } = await import("./health.ts");
    return { ...shown, health: (await readHealth(this.#context, record)) ?? null };
  }

  async exec(vm: string, options: ExecOptions): Promise<ExitReport> {
    const record = await this.#find(vm);
    const { execInVm } = await import("./exec.ts");
    return execInVm(record, options);
  }

  async *stats(options: StatsOptions = {}): AsyncIterable<readonly VmStats[]> {
    const { watchStats } = await import("./stats.ts");
    yield* watchStats(this.#context, options);
  }

  async processes(vm: string): Promise<readonly ProcessSummary[]> {
    const record = await this.#find(vm);
    const { listProcesses } = await import("./processes.ts");
    return listProcesses(record);
  }

  async update(vm: string, options: UpdateOptions): Promise<VmId> {
    const record = await this.#find(vm);
    const { updateVm } = await import("./update-vm.ts");
    await updateVm(this.#context, record, options);
    return vmIdOf(record);
  }

  async execDetached(vm: string, options: DetachedExecOptions): Promise<ExitReport | undefined> {
    const record = await this.#find(vm);
    const { execDetachedInVm } = await import("./exec.ts");
    return execDetachedInVm(record, options);
  }

  async attach(vm: string): Promise<WorkloadSession> {
    const record = await this.#find(vm);
    const { attachToVm } = await import("./attached-vm.ts");
    return attachToVm(this.#context, record);
  }

  async *exportVm(vm: string, options: ExportOptions = {}): AsyncIterable<Uint8Array> {
    const record = await this.#find(vm);
    const { exportVm } = await import("./export-vm.ts");
    yield* exportVm(this.#context, record, options);
  }

  async copyFromVm(
    vm: string,
    source: string,
    destination: string | ((chunk: Uint8Array) => unknown),
    options: CopyOptions = {},
  ): Promise<CopyReport> {
    const record = await this.#find(vm);
    const { copyFromVm } = await import("./copy/copy-vm.ts");
    return copyFromVm(this.#context, record, { ...options, source, destination });
  }

  async copyToVm(
    vm: string,
    source: string | AsyncIterable<Uint8Array>,
    destination: string,
    options: CopyOptions = {},
  ): Promise<CopyReport> {
    const record = await this.#find(vm);
    const { copyToVm } = await import("./copy/copy-vm.ts");
    return copyToVm(this.#context, record, { ...options, source, destination });
  }

  async listKernels(): Promise<readonly KernelSummary[]> {
    const { listKernels } = await import("./kernels.ts");
    return listKernels(this.#context);
  }

  async addKernel(options: AddKernelOptions): Promise<KernelSummary> {
    const { addKernel } = await import("./kernels.ts");
    return addKernel(this.#context, options);
  }

  async buildKernel(options: BuildKernelOptions): Promise<KernelSummary> {
    const { buildKernel } = await import("./build-kernel.ts");
    return buildKernel(this.#context, options);
  }

  async setDefaultKernel(name: string): Promise<void> {
    await (await this.#context.kernels()).setDefault(name);
  }

  async removeKernel(name: string): Promise<void> {
    const { removeKernel } = await import("./kernels.ts");
    await removeKernel(this.#context, name);
  }

  async pullImage(reference: string, options: PullOptions = {}): Promise<ImageSummary> {
    const { pullImage } = await import("./images.ts");
    return pullImage(this.#context, reference, options);
  }

  async loadImages(source: LoadSource, options: BringImageOptions = {}): Promise<readonly LoadedImage[]> {
    const { loadImages } = await import("./load-image.ts");
    return loadImages(this.#context, source, options);
  }

  async saveImages(references: readonly string[], options: SaveImagesOptions): Promise<void> {
    const { saveImages } = await import("./save-image.ts");
    await saveImages(this.#context, references, options);
  }

  async importImage(
    source: string | AsyncIterable<Uint8Array>,
    options: ImportImageOptions = {},
  ): Promise<LoadedImage> {
    const { importImage } = await import("./import-image.ts");
    return importImage(this.#context, source, options);
  }

  async listImages(): Promise<readonly ImageSummary[]> {
    const { listImages } = await import("./images.ts");
    return listImages(this.#context, await reconcile(this.#context));
  }

  async inspectImage(reference: string): Promise<Readonly<Record<string, unknown>>> {
    const { inspectImage } = await import("./inspect-image.ts");
    return inspectImage(this.#context, await reconcile(this.#context), reference);
  }

  async tagImage(source: string, target: string): Promise<string> {
    const { tagImage } = await import("./images.ts");
    return tagImage(this.#context, source, target);
  }

  async removeImage(reference: string, options: RemoveImageOptions = {}): Promise<RemovedImage> {
    await reconcile(this.#context);
    const { removeImage } = await import("./remove-image.ts");
    return removeImage(this.#context, reference, options);
  }

  async prune(options: PruneOptions = {}): Promise<PruneReport> {
    await reconcile(this.#context);
    const { prune } = await import("./prune.ts");
    return prune(this.#context, options);
  }

  async createVolume(options: CreateVolumeOptions = {}): Promise<VolumeSummary> {
    const records = await reconcile(this.#context);
    const { createVolume } = await import("./volumes/volumes.ts");
    return createVolume(this.#context, records, options);
  }

  async listVolumes(): Promise<readonly VolumeSummary[]> {
    const records = await reconcile(this.#context);
    const { listVolumes } = await import("./volumes/volumes.ts");
    return listVolumes(this.#context, records);
  }

  async inspectVolume(name: string): Promise<VolumeSummary> {
    const records = await reconcile(this.#context);
    const { getVolume } = await import("./volumes/volumes.ts");
    return getVolume(this.#context, records, name);
  }

  async removeVolume(name: string): Promise<void> {
    await reconcile(this.#context);
    const { removeVolume } = await import("./volumes/volumes.ts");
    await removeVolume(this.#context, name);
  }

  async pruneVolumes(options: PruneVolumesOptions = {}): Promise<PruneVolumesReport> {
    await reconcile(this.#context);
    const { pruneVolumes } = await import("./volumes/volumes.ts");
    return pruneVolumes(this.#context, options);
  }

  async diskUsage(): Promise<readonly DiskUsageItem[]> {
    const { diskUsage } = await import("./disk-usage.ts");
    return diskUsage(this.#context, await reconcile(this.#context));
  }

  async login(options: LoginOptions = {}): Promise<LoginReport> {
    const { logInToRegistry } = await import("./logins.ts");
    return logInToRegistry(this.#context, options);
  }

  async logout(registry?: string, options: { signal?: AbortSignal } = {}): Promise<LogoutReport> {
    const { logOutOfRegistry } = await import("./logins.ts");
    return logOutOfRegistry(this.#context, registry, options);
  }

  async setup(
    options: { signal?: AbortSignal; onProgress?: (event: ProgressEvent) => void } = {},
  ): Promise<SetupReport> {
    const { setUp } = await import("./setup.ts");
    return setUp(this.#context, options);
  }

  async reconcile(vm?: string): Promise<void> {
    if (vm === undefined) {
      await reconcile(this.#context);
      return;
    }
    const record = (await this.#context.vms.read()).find(({ id }) => id === vm);
    if (record === undefined) return;
    const { finishVm } = await import("./finish-vm.ts");
    await finishVm(this.#context, record);
  }

  async #madeFrom(records: readonly VmRecord[], references: readonly string[]): Promise<readonly VmRecord[]> {
    const { madeFrom } = await import("./made-from.ts");
    return madeFrom(this.#context, records, references);
  }

  async #healthOf(record: VmRecord): Promise<HealthStatus> {
    if (record.state !== "running" || record.workload?.healthCheck === undefined) return "none";
    const { readHealth } = await import("./health.ts");
    return (await readHealth(this.#context, record))?.status ?? "none";
  }

  /** The record that `vm` names, after mending. */
  async #find(vm: string): Promise<VmRecord> {
    return findByReference(await reconcile(this.#context), vm);
  }
}

function summaryOf(record: VmRecord, health: HealthStatus): VmSummary {
  return {
    id: vmIdOf(record),
    name: record.name,
    imageName: record.imageName,
    command: record.workload?.args ?? [],
    createdAt: record.createdAt,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    state: record.state,
    health,
    exitCode: record.exitCode,
    vmm: record.vmm,
    pid: record.firecrackerPid,
    cpus: record.cpus,
    memoryMib: record.memoryMib,
    labels: record.labels,
    ports: portsOf(record),
  };
}

function portsOf({ state, network }: VmRecord): VmSummary["ports"] {
  if (state !== "running" || network === undefined) return [];
  return network.ports.map(({ ephemeral: _, ...port }) => port);
}
