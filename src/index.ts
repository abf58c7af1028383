/** The library: run OCI images in Firecracker microVMs from a program. */

export type { VmId } from "./core/brands.ts";
export { type ErrorCode, type ErrorKind, exitStatusOf, FirectlError } from "./core/errors.ts";
export type {
  AddKernelOptions,
  BindMountOptions,
  BringImageOptions,
  CreateVolumeOptions,
  DetachedExecOptions,
  DiskUsageItem,
  DiskUsageKind,
  ExecOptions,
  ExitReport,
  ExportOptions,
  HealthCheckOptions,
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
  MountOptions,
  OutputChunk,
  ProgressEvent,
  PruneOptions,
  PruneReport,
  PruneVolumesOptions,
  PruneVolumesReport,
  PullPolicy,
  RemovedImage,
  RemoveImageOptions,
  RunConfigurationOptions,
  RunOptions,
  SaveImagesOptions,
  SetupReport,
  StartedVm,
  StartOptions,
  StartTimings,
  StopOptions,
  StorageMode,
  TerminalSize,
  TmpfsMountOptions,
  VmmChoice,
  VmState,
  VmSummary,
  VolumeMountOptions,
  VolumeSummary,
  WaitForHealthOptions,
  WorkloadSession,
} from "./manager/api.ts";
export { Firectl } from "./manager/firectl.ts";
export type { OpenOptions } from "./manager/open-context.ts";
export type { ResourceOptions, Ulimit } from "./manager/resources.ts";
export type {
  GuestUse,
  HostCost,
  ProcessSummary,
  StatsOptions,
  VmStats,
} from "./manager/stats-api.ts";
export type { UpdateOptions } from "./manager/update-vm.ts";
export { WorkloadStartError } from "./manager/workload-start-error.ts";
