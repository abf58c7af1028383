import { FirectlError } from "../core/errors.ts";
import { parseSignal, SIGKILL } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { killProcesses } from "./destroy-vm.ts";
import { finishKilledVm } from "./finish-vm.ts";
import { connectGuest, noAgent } from "./guest-access.ts";
import { requireState } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/**
 * Sends a signal to a VM's workload. SIGKILL always ends the VM: where its guest does not answer, the VMM is
 * killed.
 */
export async function killVm(context: Context, record: VmRecord, signal: string): Promise<void> {
  const number = parseSignal(signal);
  requireState(record, "kill", ["running"]);
  if (record.workload === null) {
    if (number !== SIGKILL) throw noAgent(record.name, signal, `firectl kill -s KILL ${record.name}`);
  } else {
    try {
      using guest = connectGuest(record);
      await guest.signal(number);
      return;
    } catch (error) {
      if (number !== SIGKILL || !(error instanceof FirectlError)) throw error;
    }
  }
  await killProcesses(vmPathsOf(context.directories, record.id));
  await finishKilledVm(context, record);
}
