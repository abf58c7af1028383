import { FirectlError } from "../../../core/errors.ts";
import { isWithin, networkOf } from "./proxy.ts";

/** Comma-separated hosts (with their port, if they have one) that need no verified HTTPS. */
const VARIABLE = "FIRECTL_INSECURE_REGISTRIES";

/**
 * Tells which registries may be spoken to over plain HTTP or with an unverified certificate: those that the
 * user names, by host with port or as a network of addresses (`10.0.0.0/8`), and this machine's own, as
 * Docker has it, unless a certs.d directory says who vouches for them.
 * @throws FirectlError INVALID_CONFIGURATION for an entry of the variable that is neither host nor network.
 */
export function insecureRegistries(
  named: readonly string[],
  options: { env: NodeJS.ProcessEnv; hasAuthority?: (host: string) => boolean },
): (host: string) => boolean {
  const fromEnvironment = entriesOf(options.env[VARIABLE] ?? "");
  const entries = [...named, ...fromEnvironment].map((entry) => entry.trim().toLowerCase());
  const hosts = new Set(entries.filter((entry) => entry !== ""));
  const networks = entries.flatMap((entry) => networkOf(entry) ?? []);
  const hasAuthority = options.hasAuthority ?? (() => false);
  return (host) => {
    if (hosts.has(host.toLowerCase())) return true;
    if (networks.some((network) => isWithin(network, addressOf(host)))) return true;
    return isLoopback(host) && !hasAuthority(host);
  };
}

/** `host`, `host:port`; an IPv6 address in brackets. */
const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;

function entriesOf(text: string): readonly string[] {
  const entries = text.split(",").map((entry) => entry.trim());
  const wrong = entries.find((entry) => entry !== "" && !HOST.test(entry) && networkOf(entry) === undefined);
  if (wrong === undefined) return entries;
  throw new FirectlError("INVALID_CONFIGURATION", `${VARIABLE}: "${wrong}" is not a registry`, {
    hint: `write hosts, with their port if they have one, or networks, separated by commas: ${VARIABLE}=registry.lan:5000,10.0.0.0/8`,
  });
}

/** A host without its port and brackets. */
function addressOf(host: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(host)?.[1] ?? host.replace(/:\d+$/, "");
}

function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host);
}
