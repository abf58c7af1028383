import { printable } from "../guest/printable.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { connectGuest } from "./guest-access.ts";
import { requireState } from "./records.ts";
import type { ProcessSummary } from "./stats-api.ts";

/** Many processes take long to read where they leave the agent little of the processor. */
const LIST_TIMEOUT_MS = 30_000;

/**
 * The processes of a VM's workload, by pid.
 * @throws FirectlError WRONG_STATE when it does not run, AGENT_UNREACHABLE, AGENT_FAILED, TIMEOUT.
 */
export async function listProcesses(record: VmRecord): Promise<readonly ProcessSummary[]> {
  requireState(record, "list the processes of", ["running"]);
  using guest = connectGuest(record);
  const { processes } = await guest.processes({ timeoutMs: LIST_TIMEOUT_MS });
  return processes
    .map((info) => ({
      pid: info.pid,
      parentPid: info.parentPid,
      uid: info.uid,
      user: info.user === "" ? String(info.uid) : printable(info.user),
      state: printable(info.state).slice(0, 1),
      terminal: info.terminal === "" ? undefined : printable(info.terminal),
      startedAtMs: Number(info.startedAtUnixNs / 1_000_000n),
      cpuMs: Number(info.cpuUs) / 1000,
      residentBytes: Number(info.residentBytes),
      virtualBytes: Number(info.virtualBytes),
      nice: info.nice,
      threads: info.threads,
      name: printable(info.name),
      args: info.args.map(printable),
    }))
    .sort((a, b) => a.pid - b.pid);
}
