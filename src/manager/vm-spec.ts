import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SpecInit } from "../guest/control-drive-format.ts";
import { RootMode } from "../guest/gen/firectl/agent/v1/control_fields.ts";
import type { HealthCheckSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import type { MountRecord } from "../state/mount-record.ts";
import type { HealthCheckRecord, WorkloadRecord } from "../state/vm-record.ts";
import { guestDeviceName } from "../vmm/device-names.ts";
import type { Drive } from "../vmm/vmm.ts";
import { resourceSpec, rlimitsSpec } from "./resource-spec.ts";
import { environmentFor, type GuestStart, terminalFor } from "./session.ts";
import { guestMounts } from "./volumes/mount-drives.ts";

/** What the guest is told: proto/firectl/agent/v1/control.proto. */
export function specFor(options: {
  id: string;
  workload: WorkloadRecord;
  start: GuestStart;
  drives: readonly Drive[];
  mounts: readonly MountRecord[];
  /** Whether the VM has never run. */
  isFirst: boolean;
  /** Start no workload. */
  idle?: boolean;
}): SpecInit {
  const { workload, drives } = options;
  const isOverlay = workload.storage === "overlay";
  return {
    vmId: options.id,
    hostname: workload.hostname,
    process: options.idle
      ? { idle: true }
      : {
          args: workload.args,
          env: environmentFor(workload.env, { tty: workload.session?.tty ?? false }),
          cwd: workload.cwd,
          user: workload.user,
          ...terminalFor({ tty: workload.session?.tty, size: options.start.terminalSize }),
          rlimits: rlimitsSpec(workload.resources),
        },
    stopSignal: workload.stopSignal,
    root: {
      mode: isOverlay ? RootMode.OVERLAY : RootMode.DISK,
      baseDevice: guestDeviceName(drives, "rootfs"),
      upperDevice: isOverlay ? guestDeviceName(drives, "upper") : "",
      readOnly: workload.readOnly,
      baseDax: drives.some(({ id, device }) => id === "rootfs" && device === "pmem"),
    },
    hostTimeUnixNs: BigInt(Date.now()) * 1_000_000n,
    ...(workload.resources === undefined || options.idle
      ? {}
      : { resources: resourceSpec(workload.resources) }),
    mounts: guestMounts(options.mounts, { drives, fills: options.isFirst }),
    ...(options.idle
      ? {}
      : {
          session: {
            openStdin: workload.session?.openStdin ?? false,
            stdinOnce: workload.session?.stdinOnce ?? false,
            init: workload.session?.init ?? false,
            systemd: workload.session?.systemd ?? false,
            awaitReader: options.start.attached,
          },
        }),
    ...(workload.healthCheck === undefined || options.idle
      ? {}
      : { healthCheck: healthCheckSpec(workload.healthCheck) }),
  };
}

function healthCheckSpec(check: HealthCheckRecord): MessageInitShape<typeof HealthCheckSchema> {
  return {
    args: check.args,
    intervalNs: nanoseconds(check.intervalMs),
    timeoutNs: nanoseconds(check.timeoutMs),
    startPeriodNs: nanoseconds(check.startPeriodMs),
    startIntervalNs: nanoseconds(check.startIntervalMs),
    retries: check.retries,
  };
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
