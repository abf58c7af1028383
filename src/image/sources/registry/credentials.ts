import path from "node:path";
import * as z from "zod";
import { FirectlError, messageOf } from "../../../core/errors.ts";
import { readTextIfPresent } from "../../../host/files.ts";
import { askHelper } from "./credential-helper.ts";

/** How a registry is told who asks. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, exchanged at the token server. */
  | { readonly kind: "identity-token"; readonly token: string };

export interface FoundCredentials {
  readonly credentials: Credentials | undefined;
  /** Why none could be read although some are configured, to be told when the registry refuses. */
  readonly problem: string | undefined;
}

/** Docker's name for Docker Hub in its credential files. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";
/** Names that mean Docker Hub in these files. */
const DOCKER_HUB_NAMES = ["docker.io", "index.docker.io", "registry-1.docker.io"];

const authSchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const fileSchema = z.object({
  auths: z.record(z.string(), authSchema.nullish()).nullish(),
  credsStore: z.string().nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
});

type CredentialFile = z.infer<typeof fileSchema>;

/**
 * Finds what Docker (`$DOCKER_CONFIG` or `~/.docker`, `config.json`) or podman (`auth.json`) know for a
 * repository; the first file that has something for it decides.
 * https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
 */
export async function findCredentials(
  repository: { domain: string; path: string },
  options: { env: NodeJS.ProcessEnv; signal?: AbortSignal | undefined },
): Promise<FoundCredentials> {
  let problem: string | undefined;
  for (const file of credentialFiles(options.env)) {
    try {
      const credentials = await readFrom(file, repository, options);
      if (credentials !== undefined) return { credentials, problem: undefined };
    } catch (error) {
      options.signal?.throwIfAborted();
      problem ??= messageOf(error);
    }
  }
  return { credentials: undefined, problem };
}

function credentialFiles(env: NodeJS.ProcessEnv): readonly string[] {
  const home = env["HOME"] || "/";
  const configHome = env["XDG_CONFIG_HOME"] || path.join(home, ".config");
  // Without that variable, podman's place for it.
  const runtime = env["XDG_RUNTIME_DIR"];
  const runtimeFile = runtime
    ? path.join(runtime, "containers/auth.json")
    : `/run/containers/${process.getuid?.() ?? 0}/auth.json`;
  return [
    ...(env["REGISTRY_AUTH_FILE"] ? [env["REGISTRY_AUTH_FILE"]] : []),
    dockerConfigFile(env),
    runtimeFile,
    path.join(configHome, "containers/auth.json"),
  ];
}

function dockerConfigFile(env: NodeJS.ProcessEnv): string {
  return path.join(env["DOCKER_CONFIG"] || path.join(env["HOME"] || "/", ".docker"), "config.json");
}

/** The file that a login is written to: one that is found before all others. */
export function loginFile(env: NodeJS.ProcessEnv): string {
  return env["REGISTRY_AUTH_FILE"] || dockerConfigFile(env);
}

/** The name of a registry in credential files and towards helpers. */
export function serverKey(domain: string): string {
  return domain === "docker.io" ? DOCKER_HUB_KEY : domain;
}

/** Whether an entry of a credential file is for all of that registry. */
export function isKeyOf(key: string, domain: string): boolean {
  return namesOf(domain).includes(/^https?:/.test(key) ? hostOfKey(key) : key);
}

/** The credential helper that a file names for a registry; undefined where it keeps the login itself. */
export function helperFor(
  file: Pick<CredentialFile, "credHelpers" | "credsStore">,
  repository: { domain: string; path: string },
): string | undefined {
  // An empty name takes a registry out of the store.
  return (findKey(file.credHelpers ?? {}, repository) ?? file.credsStore) || undefined;
}

function namesOf(domain: string): readonly string[] {
  return domain === "docker.io" ? DOCKER_HUB_NAMES : [domain];
}

async function readFrom(
  file: string,
  repository: { domain: string; path: string },
  options: { env: NodeJS.ProcessEnv; signal?: AbortSignal | undefined },
): Promise<Credentials | undefined> {
  const text = await readTextIfPresent(file);
  if (text === undefined || text.trim() === "") return undefined;
  const parsed = parseFile(text, file);
  const helper = helperFor(parsed, repository);
  if (helper !== undefined) {
    const credentials = await askHelper(helper, serverKey(repository.domain), options);
    if (credentials !== undefined) return credentials;
  }
  const auth = findKey(parsed.auths ?? {}, repository);
  return auth == null ? undefined : readAuth(auth, file);
}

/** @throws FirectlError INVALID_CONFIGURATION. */
export function parseFile(text: string, file: string): CredentialFile {
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch (error) {
    // Neither zod's message nor JSON.parse's is passed on: both may quote a secret.
    throw new FirectlError("INVALID_CONFIGURATION", `${file} is not a credential file in JSON`, {
      cause: error instanceof SyntaxError ? undefined : error,
    });
  }
}

/** The most special entry for a repository: podman's keys may name namespaces, Docker's may be URLs. */
function findKey<T>(
  map: Readonly<Record<string, T>>,
  repository: { domain: string; path: string },
): T | undefined {
  const segments = repository.path.split("/");
  for (let count = segments.length; count > 0; count--) {
    const key = [repository.domain, ...segments.slice(0, count)].join("/");
    if (Object.hasOwn(map, key)) return map[key];
  }
  const names = namesOf(repository.domain);
  for (const name of names) if (Object.hasOwn(map, name)) return map[name];
  const url = Object.keys(map).find((key) => /^https?:/.test(key) && isKeyOf(key, repository.domain));
  return url === undefined ? undefined : map[url];
}

/** `https://host/v1/` names the host; a path of its own does not. */
function hostOfKey(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/(?:v[12]\/?)?$/, "");
}

function readAuth(auth: z.infer<typeof authSchema>, file: string): Credentials | undefined {
  if (auth.identitytoken) return { kind: "identity-token", token: auth.identitytoken };
  if (auth.username && auth.password !== undefined) {
    return { kind: "password", username: auth.username, password: auth.password };
  }
  if (!auth.auth) return undefined;
  const decoded = Buffer.from(auth.auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = decoded.indexOf(":");
  if (colon < 1) {
    throw new FirectlError("INVALID_CONFIGURATION", `${file}: an auth entry is not user:password in base64`);
  }
  return { kind: "password", username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}
