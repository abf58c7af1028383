import type { MachineChange } from "../vmm/vmm.ts";
import { type ApiOptions, FirecrackerApi } from "./api/client.ts";
import { INTERFACE_ID, rateLimiter } from "./configuration.ts";

/**
 * Changes a Firecracker that runs its guest.
 * @throws FirectlError VMM_REFUSED with its own words, VMM_FAILED, TIMEOUT.
 */
export async function changeFirecracker(
  apiSocketPath: string,
  change: MachineChange,
  options: ApiOptions,
): Promise<void> {
  using api = new FirecrackerApi(apiSocketPath, options);
  for (const [id, limit] of Object.entries(change.driveLimits ?? {})) {
    await api.change({
      path: `/drives/${id}`,
      body: { drive_id: id, rate_limiter: rateLimiter(limit) },
    });
  }
  if (change.networkLimit !== undefined) {
    const limiter = rateLimiter(change.networkLimit);
    await api.change({
      path: `/network-interfaces/${INTERFACE_ID}`,
      body: { iface_id: INTERFACE_ID, rx_rate_limiter: limiter, tx_rate_limiter: limiter },
    });
  }
  if (change.balloonMib !== undefined) {
    await api.change({ path: "/balloon", body: { amount_mib: change.balloonMib } });
  }
}
