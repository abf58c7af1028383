import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import type { MachineChange } from "../vmm/vmm.ts";
import { type QmpCommand, type QmpOptions, runQmp } from "./qmp.ts";

/**
 * Changes a QEMU that runs its guest, which has booted with `memoryMib`.
 * https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
 * @throws FirectlError VMM_REFUSED with its own words, VMM_FAILED, TIMEOUT.
 */
export async function changeQemu(
  qmpSocketPath: string,
  change: MachineChange & { readonly memoryMib: number },
  options: QmpOptions,
): Promise<void> {
  await runQmp(qmpSocketPath, commandsFor(change), options);
}

/** The failure of a limit that Firecracker has and QEMU has not. */
export function noNetworkLimit(): FirectlError {
  return new FirectlError("UNSUPPORTED", "QEMU cannot limit the rate of a network interface", {
    hint: "leave out --network-bps and --network-pps, or run the VM where Firecracker can be used",
  });
}

function commandsFor(change: MachineChange & { readonly memoryMib: number }): QmpCommand[] {
  const limits = Object.entries(change.driveLimits ?? {}).map(([device, limit]) => ({
    execute: "block_set_io_throttle",
    arguments: {
      device,
      bps: limit.bytesPerSecond ?? 0,
      iops: limit.operationsPerSecond ?? 0,
      bps_rd: 0,
      bps_wr: 0,
      iops_rd: 0,
      iops_wr: 0,
    },
  }));
  if (change.balloonMib === undefined) return limits;
  // QEMU counts what is left to the guest.
  const value = (change.memoryMib - change.balloonMib) * MIB;
  return [...limits, { execute: "balloon", arguments: { value } }];
}
