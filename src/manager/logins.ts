import { FirectlError } from "../core/errors.ts";
import type { LoginContext } from "../image/sources/registry/login.ts";
import type { LoginOptions, LoginReport, LogoutReport } from "./api.ts";
import type { Context } from "./context.ts";

/** Has a registry check a login, and keeps it where Docker would. */
export async function logInToRegistry(context: Context, options: LoginOptions): Promise<LoginReport> {
  const { registry: named, username, password, signal } = options;
  if ((username === undefined) !== (password === undefined)) {
    throw new FirectlError("INVALID_ARGUMENT", "a login has a user name and a password, or neither");
  }
  const { logIn, registryDomain } = await import("../image/sources/registry/login.ts");
  const registry = registryDomain(named);
  const login = username === undefined || password === undefined ? undefined : { username, password };
  const stored = await logIn(registry, login, loginContext(context, signal));
  return { registry, storedIn: stored?.place ?? null, isPlain: stored?.isPlain ?? false };
}

/** Forgets the login for a registry. */
export async function logOutOfRegistry(
  context: Context,
  named: string | undefined,
  options: { signal?: AbortSignal },
): Promise<LogoutReport> {
  const { logOut, registryDomain } = await import("../image/sources/registry/login.ts");
  const registry = registryDomain(named);
  return { registry, ...(await logOut(registry, loginContext(context, options.signal))) };
}

function loginContext({ env, settings }: Context, signal: AbortSignal | undefined): LoginContext {
  return { ...settings, env, signal };
}
