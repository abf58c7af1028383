import type { Socket } from "node:net";
import { FirectlError } from "../core/errors.ts";
import { GuestClient } from "../guest/client.ts";
import { pollUntil } from "../host/deadline.ts";
import { dialHybridVsock } from "../host/hybrid-vsock.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { isVmmAlive } from "./records.ts";

/** The port that the agent serves on: agent/src/service.rs. */
const AGENT_PORT = 1024;

/** The agent starts the workload first and listens right after, which takes an emulated guest its time. */
const DIAL_TIMEOUT_MS = 10_000;
const FIRST_PAUSE_MS = 10;

/**
 * A client of the guest's agent, which has `dialMs` to take its connection.
 * @throws FirectlError UNSUPPORTED for a VM made from a Firecracker configuration: it has no agent.
 */
export function connectGuest(
  record: VmRecord,
  { dialMs = DIAL_TIMEOUT_MS }: { dialMs?: number } = {},
): GuestClient {
  const { machine, workload } = record;
  if (machine === null || workload === null) {
    throw noAgent(record.name, "commands");
  }
  return new GuestClient(() =>
    dialAgent(record, { socketPath: machine.vsock.socketPath, timeoutMs: dialMs }),
  );
}

function dialAgent(
  record: VmRecord,
  { socketPath, timeoutMs }: { socketPath: string; timeoutMs: number },
): Promise<Socket> {
  return pollUntil(
    {
      timeoutMs,
      intervalMs: FIRST_PAUSE_MS,
      waitingFor: `the agent in ${record.name} to answer`,
    },
    async (signal) => {
      try {
        return await dialHybridVsock(socketPath, { port: AGENT_PORT, timeoutMs, signal });
      } catch (error) {
        const isNotYet = error instanceof FirectlError && error.code === "AGENT_UNREACHABLE";
        if (!isNotYet || !isVmmAlive(record)) throw error;
        return undefined;
      }
    },
  );
}

/** For what only an agent could take, with the command that does without one. */
export function noAgent(name: string, what: string, hint?: string): FirectlError {
  return new FirectlError(
    "UNSUPPORTED",
    `${name} was made from a Firecracker configuration: it has no agent that would take ${what}`,
    hint === undefined ? {} : { hint },
  );
}
