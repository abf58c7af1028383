import path from "node:path";
import * as z from "zod";
import { FirectlError, messageOf } from "../../../core/errors.ts";
import { readTextIfPresent } from "../../../host/files.ts";
import { runProgram } from "../../../host/process.ts";

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

const HELPER_TIMEOUT_MS = 30_000;
/** Docker's name for Docker Hub in its credential files. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";

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
const helperSchema = z.object({ Username: z.string(), Secret: z.string() });

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
  const home = env["HOME"] ?? "/";
  const configHome = env["XDG_CONFIG_HOME"] || path.join(home, ".config");
  const runtime = env["XDG_RUNTIME_DIR"];
  return [
    ...(env["REGISTRY_AUTH_FILE"] ? [env["REGISTRY_AUTH_FILE"]] : []),
    path.join(env["DOCKER_CONFIG"] || path.join(home, ".docker"), "config.json"),
    ...(runtime ? [path.join(runtime, "containers/auth.json")] : []),
    path.join(configHome, "containers/auth.json"),
  ];
}

async function readFrom(
  file: string,
  repository: { domain: string; path: string },
  options: { env: NodeJS.ProcessEnv; signal?: AbortSignal | undefined },
): Promise<Credentials | undefined> {
  const text = await readTextIfPresent(file);
  if (text === undefined || text.trim() === "") return undefined;
  const parsed = parseFile(text, file);
  const serverUrl = repository.domain === "docker.io" ? DOCKER_HUB_KEY : repository.domain;
  const helper = findKey(parsed.credHelpers ?? {}, repository) ?? parsed.credsStore ?? undefined;
  if (helper !== undefined && helper !== "") {
    const credentials = await askHelper(helper, serverUrl, options);
    if (credentials !== undefined) return credentials;
  }
  const auth = findKey(parsed.auths ?? {}, repository);
  return auth == null ? undefined : readAuth(auth, file);
}

function parseFile(text: string, file: string): CredentialFile {
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
  const names = repository.domain === "docker.io" ? ["docker.io", "index.docker.io"] : [repository.domain];
  for (const name of names) if (Object.hasOwn(map, name)) return map[name];
  const url = Object.keys(map).find((key) => /^https?:/.test(key) && names.includes(hostOfKey(key)));
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

/** https://github.com/docker/docker-credential-helpers#development */
async function askHelper(
  helper: string,
  serverUrl: string,
  options: { env: NodeJS.ProcessEnv; signal?: AbortSignal | undefined },
): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      "a credential helper's name has characters that none has",
    );
  }
  let output: string;
  try {
    output = await runProgram(`docker-credential-${helper}`, ["get"], {
      input: serverUrl,
      env: options.env,
      signal: options.signal,
      timeoutMs: HELPER_TIMEOUT_MS,
    });
  } catch (error) {
    if (saysNotFound(error)) return undefined;
    throw error;
  }
  const reply = parseReply(output, helper);
  if (reply.Username === "<token>") return { kind: "identity-token", token: reply.Secret };
  return { kind: "password", username: reply.Username, password: reply.Secret };
}

function parseReply(output: string, helper: string): z.infer<typeof helperSchema> {
  try {
    return helperSchema.parse(JSON.parse(output));
  } catch {
    throw new FirectlError("PROCESS_FAILED", `docker-credential-${helper} did not answer with credentials`);
  }
}

/** The protocol's way of saying that there are none is a failure with this on stdout. */
function saysNotFound(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const stdout = cause instanceof Error && "stdout" in cause ? String(cause.stdout) : "";
  return /credentials not found/i.test(stdout);
}
