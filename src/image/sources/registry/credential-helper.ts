import * as z from "zod";
import { FirectlError } from "../../../core/errors.ts";
import { runProgram } from "../../../host/process.ts";
import type { Credentials } from "./credentials.ts";

/** Programs called `docker-credential-NAME`, https://github.com/docker/docker-credential-helpers#development */

const HELPER_TIMEOUT_MS = 30_000;
/** The user name that says that the secret is an identity token. */
const TOKEN_USER = "<token>";

const replySchema = z.object({ Username: z.string(), Secret: z.string() });

export interface HelperOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

/**
 * What a helper has for a server, undefined when it has nothing.
 * @throws FirectlError TOOL_MISSING, PROCESS_FAILED, INVALID_CONFIGURATION for a name that none can have.
 */
export async function askHelper(
  helper: string,
  serverUrl: string,
  options: HelperOptions,
): Promise<Credentials | undefined> {
  let output: string;
  try {
    output = await runHelper(helper, "get", { ...options, input: serverUrl });
  } catch (error) {
    if (saysNotFound(error)) return undefined;
    throw error;
  }
  const reply = parseReply(output, helper);
  if (reply.Username === TOKEN_USER) return { kind: "identity-token", token: reply.Secret };
  return { kind: "password", username: reply.Username, password: reply.Secret };
}

/** Gives a helper what it is to keep for a server. @throws as {@link askHelper}. */
export async function storeInHelper(
  helper: string,
  entry: { serverUrl: string; credentials: Credentials },
  options: HelperOptions,
): Promise<void> {
  const { serverUrl, credentials } = entry;
  const isToken = credentials.kind === "identity-token";
  const input = JSON.stringify({
    ServerURL: serverUrl,
    Username: isToken ? TOKEN_USER : credentials.username,
    Secret: isToken ? credentials.token : credentials.password,
  });
  await runHelper(helper, "store", { ...options, input });
}

/** Has a helper forget what it has for a server. @throws as {@link askHelper}. */
export async function eraseFromHelper(
  helper: string,
  serverUrl: string,
  options: HelperOptions,
): Promise<void> {
  await runHelper(helper, "erase", { ...options, input: serverUrl });
}

/** The program's name, for messages. */
export function helperProgram(helper: string): string {
  return `docker-credential-${helper}`;
}

async function runHelper(
  helper: string,
  action: "get" | "store" | "erase",
  options: HelperOptions & { input: string },
): Promise<string> {
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      "a credential helper's name has characters that none has",
    );
  }
  return runProgram(helperProgram(helper), [action], { ...options, timeoutMs: HELPER_TIMEOUT_MS });
}

function parseReply(output: string, helper: string): z.infer<typeof replySchema> {
  try {
    return replySchema.parse(JSON.parse(output));
  } catch {
    throw new FirectlError("PROCESS_FAILED", `${helperProgram(helper)} did not answer with credentials`);
  }
}

/** The protocol's way of saying that there are none is a failure with this on stdout. */
function saysNotFound(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const stdout = cause instanceof Error && "stdout" in cause ? String(cause.stdout) : "";
  return /credentials not found/i.test(stdout);
}
