import { FirectlError } from "../../../core/errors.ts";
import { parseReference } from "../../reference.ts";
import { checkLogin, eraseLogin, type StoredIn, storeLogin } from "./credential-store.ts";
import { type Credentials, findCredentials } from "./credentials.ts";
import { readDockerDaemonSettings } from "./docker-daemon.ts";
import { RegistryEndpoint } from "./endpoint.ts";
import { readNetwork } from "./network.ts";
import { withRetries } from "./retry.ts";
import type { RegistrySettings } from "./source.ts";

const ATTEMPTS = 3;
const FIRST_DELAY_MS = 500;
const DOCKER_HUB_HOSTS = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

export interface LoginContext extends RegistrySettings {
  readonly env: NodeJS.ProcessEnv;
  /** Where the machine's configuration is, `/etc`. */
  readonly etcDirectory?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The registry that a user names: `docker.io` for nothing, the host of a URL.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function registryDomain(text: string | undefined): string {
  const host = (text ?? "").replace(/^https?:\/\//, "").replace(/\/.*$/s, "");
  if (text === undefined || DOCKER_HUB_HOSTS.has(host)) return "docker.io";
  try {
    const { domain } = parseReference(`${host}/x`);
    if (domain === host) return domain;
  } catch (error) {
    if (!(error instanceof FirectlError)) throw error;
  }
  throw new FirectlError("INVALID_ARGUMENT", `${JSON.stringify(text)} is not a registry`, {
    hint: "write HOST[:PORT], with a dot or a port as in the names of its images",
  });
}

/**
 * Has the registry check a login, then keeps it; without a login, has the one checked that is known.
 * @returns Where it is kept; undefined when it was known.
 * @throws FirectlError AUTHENTICATION_FAILED, INVALID_ARGUMENT, REGISTRY_*; as {@link storeLogin}.
 */
export async function logIn(
  domain: string,
  login: { username: string; password: string } | undefined,
  context: LoginContext,
): Promise<StoredIn | undefined> {
  if (login !== undefined) checkLogin(login);
  const credentials: Credentials | undefined =
    login === undefined ? await knownLogin(domain, context) : { kind: "password", ...login };
  const identityToken = await check(domain, credentials, context);
  if (login === undefined) return undefined;
  const kept: Credentials =
    identityToken === undefined
      ? { kind: "password", ...login }
      : { kind: "identity-token", token: identityToken };
  return storeLogin(domain, { username: login.username, credentials: kept }, context);
}

/**
 * Forgets the login for a registry.
 * @returns Where it was, and whether another file still has one.
 */
export async function logOut(
  domain: string,
  context: LoginContext,
): Promise<{ removedFrom: readonly string[]; isStillKnown: boolean }> {
  const removedFrom = await eraseLogin(domain, context);
  const { credentials } = await findCredentials({ domain, path: "" }, context);
  return { removedFrom, isStillKnown: credentials !== undefined };
}

async function knownLogin(domain: string, context: LoginContext): Promise<Credentials> {
  const { credentials, problem } = await findCredentials({ domain, path: "" }, context);
  if (credentials !== undefined) return credentials;
  const because = problem === undefined ? "" : ` (${problem})`;
  throw new FirectlError("AUTHENTICATION_FAILED", `no login for ${domain} is known${because}`, {
    hint: `firectl login -u USER --password-stdin ${domain}`,
  });
}

async function check(
  domain: string,
  credentials: Credentials,
  context: LoginContext,
): Promise<string | undefined> {
  const { env, etcDirectory = "/etc", insecureRegistries = [], signal } = context;
  const docker = await readDockerDaemonSettings({ env, etcDirectory });
  const network = readNetwork({
    env,
    etcDirectory,
    insecureRegistries: [...insecureRegistries, ...docker.insecureRegistries],
  });
  using endpoint = new RegistryEndpoint({
    domain,
    scope: undefined,
    network: network(domain),
    tokenServers: context.registryTokenServers?.[domain] ?? [],
    findCredentials: async () => ({ credentials, problem: undefined }),
    wantsIdentityToken: true,
  });
  const retries = { attempts: ATTEMPTS, firstDelayMs: FIRST_DELAY_MS, signal };
  return withRetries(retries, () => endpoint.logIn(signal));
}
