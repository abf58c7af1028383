import type { PortRecord } from "../../state/network-record.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import { GATEWAY, GUEST_ADDRESS, GUEST_MAC, PREFIX_LENGTH } from "./user-network.ts";

/**
 * A VM's network in Docker's form, for scripts that look for it there; addresses are those that the guest sees.
 * https://docs.docker.com/reference/api/engine/ (ContainerInspect, NetworkSettings)
 */
export function networkSettings({ network, state }: VmRecord): Readonly<Record<string, unknown>> {
  if (network === undefined || state !== "running") {
    return { IPAddress: "", IPPrefixLen: 0, Gateway: "", MacAddress: "", Ports: {} };
  }
  return {
    IPAddress: GUEST_ADDRESS,
    IPPrefixLen: PREFIX_LENGTH,
    Gateway: GATEWAY,
    MacAddress: GUEST_MAC,
    Ports: portBindings(network.ports),
  };
}

function portBindings(ports: readonly PortRecord[]): Record<string, { HostIp: string; HostPort: string }[]> {
  const bindings: Record<string, { HostIp: string; HostPort: string }[]> = {};
  for (const { protocol, guestPort, hostAddress, hostPort } of ports) {
    const name = `${guestPort}/${protocol}`;
    bindings[name] = [...(bindings[name] ?? []), { HostIp: hostAddress, HostPort: String(hostPort) }];
  }
  return bindings;
}
