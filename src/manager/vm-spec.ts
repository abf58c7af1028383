import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SpecInit } from "../guest/control-drive-format.ts";
import { RootMode } from "../guest/gen/firectl/agent/v1/control_fields.ts";
import type { HealthCheckSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { randomSeed } from "../host/random.ts";
import type { MountRecord } from "../state/mount-record.ts";
import type { NetworkRecord } from "../state/network-record.ts";
import type { HealthCheckRecord, WorkloadRecord } from "../state/vm-record.ts";
import { guestDeviceName } from "../vmm/device-names.ts";
import type { Drive } from "../vmm/vmm.ts";
import { userNetworkSpec } from "./network/user-network.ts";
import { resourceSpec, rlimitsSpec } from "./resource-spec.ts";
import { environmentFor, type GuestStart, terminalFor } from "./session.ts";
import { guestMounts } from "./volumes/mount-drives.ts";

/** As much as the generator of a guest's kernel holds. */
const SEED_BYTES = 32;

/** What the guest is told: proto/firectl/agent/v1/control.proto. */
export function specFor(options: {
  id: string;
  workload: WorkloadRecord;
  start: GuestStart;
  drives: readonly Drive[];
  mounts: readonly MountRecord[];
  network: NetworkRecord | undefined;
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
    stopSignal: workload.stopSignal,
    root: {
      mode: isOverlay ? RootMode.OVERLAY : RootMode.DISK,
      baseDevice: guestDeviceName(drives, "rootfs"),
      upperDevice: isOverlay ? guestDeviceName(drives, "upper") : "",
      readOnly: workload.readOnly,
      baseDax: drives.some(({ id, device }) => id === "rootfs" && device === "pmem"),
    },
    hostTimeUnixNs: BigInt(Date.now()) * 1_000_000n,
    seed: randomSeed(SEED_BYTES),
    mounts: guestMounts(options.mounts, { drives, fills: options.isFirst }),
    ...(options.network === undefined ? {} : { network: userNetworkSpec(workload.resources) }),
    ...(options.idle ? { process: { idle: true } } : workloadSpec(workload, options.start)),
  };
}

/** What only a guest with a workload needs to know. */
function workloadSpec(
  workload: WorkloadRecord,
  start: GuestStart,
): Pick<SpecInit, "process" | "resources" | "session" | "healthCheck"> {
  const { session, resources, healthCheck } = workload;
  return {
    process: {
      args: workload.args,
      env: environmentFor(workload.env, { tty: session?.tty ?? false }),
      cwd: workload.cwd,
      user: workload.user,
      ...terminalFor({ tty: session?.tty, size: start.terminalSize }),
      rlimits: rlimitsSpec(resources),
    },
    session: {
      openStdin: session?.openStdin ?? false,
      stdinOnce: session?.stdinOnce ?? false,
      init: session?.init ?? false,
      systemd: session?.systemd ?? false,
      awaitReader: start.attached,
    },
    ...(resources === undefined ? {} : { resources: resourceSpec(resources) }),
    ...(healthCheck === undefined ? {} : { healthCheck: healthCheckSpec(healthCheck) }),
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
