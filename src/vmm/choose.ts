import { type ErrorCode, FirectlError } from "../core/errors.ts";

/** Why a VMM cannot be used here. */
export interface Unusable {
  readonly code: ErrorCode;
  /** One sentence without its full stop. */
  readonly reason: string;
  /** What would change it. */
  readonly hint: string;
}

/** The one line that says why a VM runs slowly. */
export function fallbackNotice(firecracker: Unusable): string {
  return `using QEMU's software emulation, which is slow: ${firecracker.reason} (${firecracker.hint})`;
}

/** The failure of a VMM that was asked for by name. */
export function unusableError(unusable: Unusable): FirectlError {
  return new FirectlError(unusable.code, unusable.reason, { hint: unusable.hint });
}

/** The failure when no VMM is left. */
export function noVmmError(firecracker: Unusable, qemu: Unusable): FirectlError {
  const message = `no virtual machine can run here: ${firecracker.reason}; and ${qemu.reason}`;
  return new FirectlError(firecracker.code, message, { hint: `${firecracker.hint}; or ${qemu.hint}` });
}
