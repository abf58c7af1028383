import { isIPv4 } from "node:net";
import { FirectlError } from "../core/errors.ts";
import { parsePortRange, portsIn } from "../core/port-range.ts";
import type { NetworkMode, PublishedPort, RunOptions } from "../manager/api.ts";
import type { CommandInput, Flags } from "./command.ts";

const NETWORK = "Network";

/** Flags of `run` about the VM's network. */
export const NETWORK_FLAGS = {
  network: {
    kind: "value",
    placeholder: "none|user",
    parse: parseNetwork,
    summary: "Nothing (none, the default), or what you reach from this host (user)",
    group: NETWORK,
  },
  publish: {
    kind: "list",
    short: "p",
    placeholder: "[[IP:]PORT:]PORT",
    parse: parsePublish,
    summary: "Let a port of this host lead to one of the VM; /udp after it for UDP",
    group: NETWORK,
  },
  "publish-all": {
    kind: "boolean",
    short: "P",
    summary: "The same for all ports that the image exposes, on free ones of this host",
    group: NETWORK,
  },
} as const satisfies Flags;

/** What the flags say, for the library. */
export function networkFrom(
  flags: CommandInput<typeof NETWORK_FLAGS>["flags"],
): Pick<RunOptions, "network" | "publish" | "publishAll"> {
  return {
    ...(flags.network === undefined ? {} : { network: flags.network }),
    ...(flags.publish.length === 0 ? {} : { publish: flags.publish.flat() }),
    ...(flags["publish-all"] ? { publishAll: true } : {}),
  };
}

function parseNetwork(text: string, flag: string): NetworkMode {
  if (text === "none" || text === "user") return text;
  const isDockers = /^(bridge|default|host|container:.*)$/.test(text);
  throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not one of none, user`, {
    hint: isDockers
      ? `${flag} user lets it reach what this host reaches, -p lets this host reach it: no network is shared by VMs`
      : `write ${flag} user`,
  });
}

/**
 * Reads docker's `[[IP:][PORT]:]PORT[/tcp|udp]`, where a port may be a range of as many ports on both sides.
 * https://docs.docker.com/reference/cli/docker/container/run/#publish
 */
function parsePublish(text: string, flag: string): readonly PublishedPort[] {
  const invalid = (
    what: string,
    hint = `write ${flag} 8080:80, 127.0.0.1:8080:80 or 5353:53/udp`,
  ): FirectlError => new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" ${what}`, { hint });
  if (text.includes("[")) throw invalid("is an IPv6 address", "a VM's network is IPv4 only");
  const match = /^(?:(?:([^:]*):)?([^:]*):)?([^:/]+)(?:\/(.*))?$/.exec(text);
  const [, address = "", host = "", guest = "", protocol = "tcp"] = match ?? [];
  const guestPorts = portsOf(guest);
  if (match === null || guestPorts === undefined) throw invalid("publishes no port");
  if (protocol !== "tcp" && protocol !== "udp") {
    throw invalid("is neither TCP nor UDP", "write /tcp or /udp after the port");
  }
  if (address !== "" && !isIPv4(address)) throw invalid(`has no IPv4 address of this host: "${address}"`);
  const hostPorts = host === "" ? undefined : portsOf(host);
  if (host !== "" && hostPorts?.length !== guestPorts.length) {
    throw invalid(
      hostPorts === undefined ? `has no port of this host: "${host}"` : "has ranges of two lengths",
    );
  }
  return guestPorts.map((guestPort, index) => ({
    protocol,
    guestPort,
    ...(address === "" ? {} : { hostAddress: address }),
    ...(hostPorts?.[index] === undefined ? {} : { hostPort: hostPorts[index] }),
  }));
}

function portsOf(text: string): readonly number[] | undefined {
  const range = parsePortRange(text);
  return range && portsIn(range);
}
