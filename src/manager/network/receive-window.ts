import { KIB, MIB } from "../../core/units.ts";
import type { RateLimit } from "../../vmm/vmm.ts";

/** Least, initial and largest receive window of a TCP connection, tcp(7). */
const TCP_RMEM = "net.ipv4.tcp_rmem";

const LEAST_BYTES = 4 * KIB;
/** As the kernel has it. */
const INITIAL_BYTES = 128 * KIB;
const LARGEST_BYTES = 6 * MIB;
/** A whole frame still fits. */
const SMALLEST_LARGEST_BYTES = 64 * KIB;

/** How much may be on its way to a guest that receives slowly, in seconds of its rate. */
const WINDOW_SECONDS = 1 / 8;

/**
 * The setting of a guest whose interface is limited. passt(1) sends as much as the guest's window allows, without
 * congestion control of its own. What waits at the limit is late, and of the passt of Debian 12 (2023) measured
 * to stall for seconds, then to lose the connection: 4 MiB at 1 MiB a second took 50 s, with this 2.2 s.
 */
export function receiveWindowSetting(limit: RateLimit | undefined): Readonly<Record<string, string>> {
  if (limit?.bytesPerSecond === undefined) return {};
  const wanted = Math.round(limit.bytesPerSecond * WINDOW_SECONDS);
  const largest = Math.min(LARGEST_BYTES, Math.max(SMALLEST_LARGEST_BYTES, wanted));
  return { [TCP_RMEM]: `${LEAST_BYTES} ${Math.min(INITIAL_BYTES, largest)} ${largest}` };
}
