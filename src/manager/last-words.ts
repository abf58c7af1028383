import type { VmStatus } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { printable } from "../guest/printable.ts";
import { logIsWhole, readLogTail } from "../host/supervise.ts";
import type { VmmName } from "../vmm/vmm.ts";
import type { VmPaths } from "./vm-paths.ts";

/** How much of each log an error quotes, and of the agent's own word. */
const QUOTED_BYTES = 1024;
const QUOTED_STATUS_LENGTH = 200;

/** All that a VMM and its side processes say goes into one file. */
const LOG_OF: Readonly<Record<VmmName, string>> = {
  firecracker: "Firecracker's log",
  qemu: "the log of QEMU and of vhost-device-vsock",
};

/**
 * What there is to know of a guest that never came to its workload, to follow an error's message: how far its agent
 * got, which tells a kernel's fault from an image's, and the ends of its console and of the VMM's log.
 */
export async function lastWords(
  paths: Pick<VmPaths, "console" | "vmmLog" | "runtimeDirectory">,
  guest: { readonly status: VmStatus | undefined; readonly vmm: VmmName },
): Promise<string> {
  await logIsWhole(paths.runtimeDirectory);
  const [console, log] = await Promise.all([
    readLogTail(paths.console, QUOTED_BYTES),
    readLogTail(paths.vmmLog, QUOTED_BYTES),
  ]);
  const said = console === "" ? "; its console is empty" : `; the guest's console ends with:\n${console}`;
  return `; ${agentWords(guest.status)}${said}${log === "" ? "" : `\n${LOG_OF[guest.vmm]} ends with:\n${log}`}`;
}

function agentWords(status: VmStatus | undefined): string {
  if (status === undefined) return "the guest's agent had not started";
  const error = printable(status.error).trim().slice(0, QUOTED_STATUS_LENGTH);
  return error === "" ? "the guest's agent had started" : `the guest's agent had started, and said: ${error}`;
}
