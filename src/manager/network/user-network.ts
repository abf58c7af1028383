import { readFileSync } from "node:fs";
import { FirectlError } from "../../core/errors.ts";
import type { SpecInit } from "../../guest/control-drive-format.ts";
import type { PortRecord } from "../../state/network-record.ts";
import type { ResourceRecord } from "../../state/resource-record.ts";
import type { NetworkDevice, NetworkLauncher, RateLimit } from "../../vmm/vmm.ts";
import type { Context } from "../context.ts";
import { findProgram } from "../find-program.ts";
import { requireOwnProgram } from "../own-program.ts";

/**
 * What every guest finds: the addresses of QEMU's user network, https://wiki.qemu.org/Documentation/Networking. They
 * are the guest's alone, so that all guests have the same and can go on from one snapshot.
 */
export const GUEST_ADDRESS = "10.0.2.15";
export const PREFIX_LENGTH = 24;
export const GATEWAY = "10.0.2.2";
const NAME_SERVER = "10.0.2.3";

/** As docker makes them of the address. */
export const GUEST_MAC = "02:42:0a:00:02:0f";
const GATEWAY_MAC = "02:42:0a:00:02:02";

/** The most that passt(1) and a tap device carry: the larger the frames, the fewer of them are handled one by one. */
const MTU = 65_520;

/** The interface that the machine has. */
export function userNetworkDevice(limit: RateLimit | undefined): NetworkDevice {
  return { macAddress: GUEST_MAC, ...(limit === undefined ? {} : { limit }) };
}

/** How the guest is to set it up. Names are looked up as on the host, but for what is said of them. */
export function userNetworkSpec(
  names: Pick<ResourceRecord, "dnsSearch"> | undefined,
): NonNullable<SpecInit["network"]> {
  return {
    address: GUEST_ADDRESS,
    prefixLength: PREFIX_LENGTH,
    gateway: GATEWAY,
    mtu: MTU,
    servers: [NAME_SERVER],
    search: names?.dnsSearch ?? hostSearchDomains(),
  };
}

const INSTALL_PASST = "sudo apt-get install passt";

/**
 * What connects the interface to the host's network, and `ports` to the guest.
 * @throws FirectlError TOOL_MISSING without passt(1), FILE_NOT_FOUND when firectl is not whole.
 */
export async function userNetworkLauncher(
  context: Pick<Context, "env" | "settings" | "directories" | "networkLauncherPath">,
  ports: readonly PortRecord[],
): Promise<NetworkLauncher> {
  const passt = await findProgram(context, "passt", { variable: "FIRECTL_PASST", field: "passt" });
  if (passt === undefined) {
    throw new FirectlError("TOOL_MISSING", "passt, which connects VMs to the network, is not installed", {
      hint: `${INSTALL_PASST}, or run it with --network none`,
    });
  }
  await requireOwnProgram(context.networkLauncherPath, "the program that connects VMs to passt");
  return { program: context.networkLauncherPath, passt: [passt, ...passtArguments(ports)] };
}

/**
 * https://passt.top/builds/latest/web/passt.1.html
 * The guest is told its addresses by its agent: nobody else is to tell it any.
 */
export function passtArguments(ports: readonly PortRecord[]): string[] {
  return [
    ...["--quiet", "--ipv4-only", "--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"],
    ...["--address", GUEST_ADDRESS, "--netmask", String(PREFIX_LENGTH)],
    ...["--gateway", GATEWAY, "--mac-addr", GATEWAY_MAC, "--dns-forward", NAME_SERVER],
    // Else the gateway's address would be the host's loopback.
    "--no-map-gw",
    ...portArguments(
      "--tcp-ports",
      ports.filter(({ protocol }) => protocol === "tcp"),
    ),
    // Without it the ports of TCP would lead to the guest over UDP, too.
    ...portArguments(
      "--udp-ports",
      ports.filter(({ protocol }) => protocol === "udp"),
    ),
  ];
}

function portArguments(flag: string, ports: readonly PortRecord[]): string[] {
  if (ports.length === 0) return [flag, "none"];
  return ports.flatMap(({ hostAddress, hostPort, guestPort }) => [
    flag,
    `${hostAddress}/${hostPort}:${guestPort}`,
  ]);
}

/** The domains in which the host looks for names without dots, resolv.conf(5): the last line of them counts. */
function hostSearchDomains(): string[] {
  let text: string;
  try {
    text = readFileSync("/etc/resolv.conf", "utf8");
  } catch {
    // A host that resolves no names has none.
    return [];
  }
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  const last = lines.findLast(([keyword]) => keyword === "search" || keyword === "domain");
  return last?.slice(1).filter((domain) => domain !== ".") ?? [];
}
