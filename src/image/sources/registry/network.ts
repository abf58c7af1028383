import { allAuthorities } from "./authorities.ts";
import { certificateFinder, type HostCertificates } from "./certificates.ts";
import type { Network } from "./connections.ts";
import { insecureRegistries } from "./insecure.ts";
import { proxiesOf } from "./proxy.ts";

/** Docker Hub's API is not at the name that its images carry. */
export const DOCKER_HUB_API = "registry-1.docker.io";

export interface NetworkOptions {
  readonly env: NodeJS.ProcessEnv;
  /** `/etc`. */
  readonly etcDirectory: string;
  /** Registries that need no verified HTTPS, beside FIRECTL_INSECURE_REGISTRIES. */
  readonly insecureRegistries: readonly string[];
}

/**
 * Reads how this user's machine reaches registries; returns the way for one registry (`docker.io`,
 * `localhost:5000`) and what it leads to.
 * @throws FirectlError INVALID_CONFIGURATION, UNSUPPORTED for a proxy variable that is wrong.
 */
export function readNetwork(options: NetworkOptions): (registry: string) => Network {
  const find = certificateFinder(options);
  const proxyFor = proxiesOf(options.env);
  const isInsecure = insecureRegistries(options.insecureRegistries, {
    env: options.env,
    hasAuthority: (host) => (find(host)?.authorities.length ?? 0) > 0,
  });
  return (registry) => ({
    isInsecure,
    proxyFor,
    allAuthorities: () => allAuthorities(options),
    certificatesFor: (url) => certificatesFor(url, { registry, find }),
  });
}

/**
 * A host's own certificates; else the registry's that leads there: another port of the same host knows us by
 * the same client certificate, another host (a token server, a store of blobs) is shown none, but may have its
 * certificate from the same authority.
 */
function certificatesFor(
  url: URL,
  options: { registry: string; find: (host: string) => HostCertificates | undefined },
): HostCertificates | undefined {
  const { registry, find } = options;
  const own = find(url.host) ?? (url.port === "" ? find(`${url.hostname}:443`) : undefined);
  if (own !== undefined) return own;
  const ofRegistry = find(registry);
  const isSameHost = url.hostname === hostnameOf(registry === "docker.io" ? DOCKER_HUB_API : registry);
  return ofRegistry === undefined || isSameHost ? ofRegistry : { ...ofRegistry, clients: [] };
}

/** `localhost` of `localhost:5000`. */
export function hostnameOf(registry: string): string {
  return new URL(`https://${registry}`).hostname;
}
