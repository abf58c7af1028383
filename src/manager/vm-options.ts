import { FirectlError } from "../core/errors.ts";
import { GIB, MIB } from "../core/units.ts";
import type { RunOptions } from "./api.ts";
import type { Settings } from "./settings.ts";
import { checkName } from "./vm-names.ts";

/** Firecracker's MAX_SUPPORTED_VCPUS. */
const MAX_VCPUS = 32;
const MIN_CPUS = 0.01;
const MAX_MEMORY_MIB = 1024 * 1024;
/** Less, and the guest kernel has no room to unpack its initramfs. */
export const MIN_MEMORY_MIB = 64;
const DEFAULT_MEMORY_MIB = 512;
const MIN_DISK_BYTES = 16 * MIB;
export const DEFAULT_DISK_BYTES: number = 10 * GIB;
const MAX_DISK_BYTES = 16 * 1024 * GIB;
const DEFAULT_STOP_TIMEOUT_MS = 10_000;
/** The kernel's command line holds 2048 bytes with its NUL; firectl's own part stays well under 512. */
const MAX_KERNEL_ARGUMENTS_BYTES = 1536;

/** docs/control-drive.md: the ring of a guest's output. */
const DEFAULT_LOG_BYTES = 16 * MIB;
const MAX_LOG_BYTES = 64 * 1024 * MIB;

/** The size of a VM, with defaults filled in. */
export interface VmSize {
  readonly cpus: number;
  readonly memoryMib: number;
  readonly diskBytes: number;
  /** Output that is kept. */
  readonly logBytes: number;
  readonly stopTimeoutMs: number;
}

/**
 * Checks the flags of `run` that need neither image nor VMM, and fills in defaults.
 * @throws FirectlError INVALID_ARGUMENT naming flag, value and range.
 */
export function checkRunOptions(run: Omit<RunOptions, "image">, settings: Settings): VmSize {
  if (run.name !== undefined) checkName(run.name);
  if (run.hostname !== undefined) checkHostname(run.hostname);
  checkKernelArguments(run.kernelArguments ?? []);
  for (const entry of run.env ?? []) checkVariable(entry);
  return {
    cpus: checkCpus(run.cpus ?? settings.cpus ?? 1),
    memoryMib: checkMemory(run.memoryBytes ?? (settings.memoryMib ?? DEFAULT_MEMORY_MIB) * MIB),
    diskBytes: inRange("--disk-size", run.diskBytes ?? DEFAULT_DISK_BYTES, {
      min: MIN_DISK_BYTES,
      max: MAX_DISK_BYTES,
      unit: " bytes",
    }),
    logBytes: inRange("--log-size", run.logBytes ?? DEFAULT_LOG_BYTES, {
      min: MIB,
      max: MAX_LOG_BYTES,
      unit: " bytes",
    }),
    stopTimeoutMs: inRange("--stop-timeout", run.stopTimeoutMs ?? DEFAULT_STOP_TIMEOUT_MS, {
      min: 0,
      max: 24 * 3_600_000,
      unit: " ms",
    }),
  };
}

/**
 * Docker's least, up to what Firecracker can have.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function checkCpus(cpus: number): number {
  if (cpus >= MIN_CPUS && cpus <= MAX_VCPUS) return cpus;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `--cpus: ${cpus} is not a number from ${MIN_CPUS} to ${MAX_VCPUS}`,
  );
}

/** Memory in whole MiB. @throws FirectlError INVALID_ARGUMENT. */
export function checkMemory(bytes: number): number {
  return inRange("--memory", Math.ceil(bytes / MIB), {
    min: MIN_MEMORY_MIB,
    max: MAX_MEMORY_MIB,
    unit: " MiB",
  });
}

function inRange(flag: string, value: number, range: { min: number; max: number; unit: string }): number {
  if (Number.isSafeInteger(value) && value >= range.min && value <= range.max) return value;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `${flag}: ${value}${range.unit} is not a whole number from ${range.min} to ${range.max}${range.unit}`,
  );
}

function checkHostname(hostname: string): void {
  // 63 bytes: Linux's HOST_NAME_MAX is 64 with the NUL.
  if (/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$/.test(hostname)) return;
  throw new FirectlError("INVALID_ARGUMENT", `--hostname: "${hostname}" is not a host name`, {
    hint: "use letters, digits, - and ., at most 63",
  });
}

function checkVariable(entry: string): void {
  if (/^[^=\0]+=[^\0]*$/.test(entry)) return;
  throw new FirectlError(
    "INVALID_ARGUMENT",
    `environment variable ${JSON.stringify(entry)} is not KEY=value`,
  );
}

function checkKernelArguments(words: readonly string[]): void {
  const bad = words.find((word) => !/^[\x21-\x7e]+$/.test(word));
  if (bad !== undefined) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `--kernel-args: ${JSON.stringify(bad)} is not a word of printable ASCII`,
    );
  }
  const reserved = words.find((word) => word.startsWith("firectl."));
  if (reserved !== undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `--kernel-args: "${reserved}" is firectl's own`);
  }
  const length = words.join(" ").length;
  if (length > MAX_KERNEL_ARGUMENTS_BYTES) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `--kernel-args: ${length} bytes are more than the ${MAX_KERNEL_ARGUMENTS_BYTES} that fit the kernel's command line`,
    );
  }
}
