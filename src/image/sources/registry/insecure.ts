/** Comma-separated hosts (with their port, if they have one) that need no verified HTTPS. */
const VARIABLE = "FIRECTL_INSECURE_REGISTRIES";

/**
 * Tells which registries may be spoken to over plain HTTP or with an unverified certificate: this machine's
 * own, as Docker has it, and those that the user names.
 */
export function insecureRegistries(
  named: readonly string[],
  env: NodeJS.ProcessEnv,
): (host: string) => boolean {
  const fromEnvironment = (env[VARIABLE] ?? "").split(",").map((host) => host.trim());
  const hosts = new Set([...named, ...fromEnvironment].map((host) => host.toLowerCase()));
  return (host) => isLoopback(host) || hosts.has(host.toLowerCase());
}

function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host);
}
