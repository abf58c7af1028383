import { FirectlError } from "../core/errors.ts";
import { GuestClient } from "../guest/client.ts";
import { dialHybridVsock } from "../host/hybrid-vsock.ts";
import type { VmRecord } from "../state/vm-record.ts";

/** The agent's port; agent/src/service.rs listens on it. */
const AGENT_PORT = 1024;

/** The agent serves within milliseconds of the workload's start, emulated or not. */
const DIAL_TIMEOUT_MS = 20_000;

/**
 * A client of the guest's agent.
 * @throws FirectlError UNSUPPORTED for a VM made from a Firecracker configuration: it has no agent.
 */
export function connectGuest(record: VmRecord): GuestClient {
  const { machine } = record;
  if (machine === null || record.workload === null) {
    throw new FirectlError(
      "UNSUPPORTED",
      `${record.name} was made from a Firecracker configuration: no agent of firectl runs in it`,
    );
  }
  return new GuestClient({
    dial: (signal) =>
      dialHybridVsock(machine.vsock.socketPath, { port: AGENT_PORT, timeoutMs: DIAL_TIMEOUT_MS, signal }),
  });
}
