import * as z from "zod";
import { FirectlError } from "../../../core/errors.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import type { Credentials, FoundCredentials } from "./credentials.ts";
import type { HttpClient, HttpResponse } from "./http.ts";
import { hostnameOf } from "./network.ts";
import { parseRetryAfter, TransientFailure } from "./retry.ts";
import { isSameSite } from "./same-site.ts";

const MAX_TOKEN_REPLY_BYTES = 1024 * 1024;
/** https://distribution.github.io/distribution/spec/auth/token/: a token without a lifetime lives a minute. */
const DEFAULT_LIFETIME_S = 60;
/** A token is renewed so long before its end, or after half of a shorter life. */
const RENEWAL_MARGIN_S = 10;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().nullish(),
  refresh_token: z.string().nullish(),
});

export interface RegistryAuthOptions {
  readonly http: HttpClient;
  /** The registry, as it is called in messages. */
  readonly registry: string;
  /** `repository:library/debian:pull`; undefined to log in only. */
  readonly scope: string | undefined;
  readonly isInsecure: (host: string) => boolean;
  /** Further hosts (with their port, if they have one) that may see this registry's login. */
  readonly tokenServers: readonly string[];
  /** Ask for an identity token, to be kept in the password's place. */
  readonly wantsIdentityToken?: boolean;
  readonly findCredentials: () => Promise<FoundCredentials>;
}

type Scheme =
  | { readonly kind: "none" }
  | { readonly kind: "basic" }
  | { readonly kind: "bearer"; readonly realm: URL; readonly service: string | undefined };

interface Token {
  readonly value: string;
  readonly renewAtMs: number;
}

/** What proves to one registry who asks for one repository, kept valid over a long pull. */
export class RegistryAuth {
  readonly #options: RegistryAuthOptions;
  #scheme: Scheme = { kind: "none" };
  #credentials: Promise<FoundCredentials> | undefined;
  #token: Promise<Token> | undefined;
  #renewing: Promise<Token> | undefined;
  /** What the token server gave last in exchange for an identity token or password. */
  #identityToken: string | undefined;
  /** A token server that was not told the login, for being of another site. */
  #distrusted: string | undefined;

  constructor(options: RegistryAuthOptions) {
    this.#options = options;
  }

  /** The identity token that the token server has given. */
  get identityToken(): string | undefined {
    return this.#identityToken;
  }

  /** Uses a login for want of a challenge. */
  assumeBasic(): void {
    if (this.#scheme.kind === "none") this.#scheme = { kind: "basic" };
  }

  /**
   * The Authorization header for the next request, undefined for an anonymous one.
   * @throws FirectlError AUTHENTICATION_FAILED; TransientFailure.
   */
  async authorization(signal: AbortSignal | undefined): Promise<string | undefined> {
    switch (this.#scheme.kind) {
      case "none":
        return undefined;
      case "basic":
        return basic(await this.#password());
      case "bearer":
        return `Bearer ${await this.#bearerToken(this.#scheme, signal)}`;
    }
  }

  /**
   * Takes in a 401 of the registry itself.
   * @param used The header that was refused.
   */
  async challenged(response: HttpResponse, used: string | undefined): Promise<void> {
    const challenges = parseChallenges(response.headers["www-authenticate"] ?? "");
    const bearer = challenges.find((challenge) => challenge.scheme === "bearer");
    if (bearer !== undefined) {
      // Another request may have renewed the token meanwhile: only the refused one is dropped.
      const current = await this.#token?.catch(() => undefined);
      if (current === undefined || `Bearer ${current.value}` === used) this.#token = undefined;
      this.#scheme = this.#bearerScheme(bearer);
    } else if (challenges.some((challenge) => challenge.scheme === "basic")) {
      this.#scheme = { kind: "basic" };
    } else {
      throw new FirectlError(
        "AUTHENTICATION_FAILED",
        `${this.#options.registry} asks for a login in a way that firectl does not know`,
      );
    }
  }

  /**
   * The error for a registry that refuses even so.
   * @param said What it says about that.
   */
  async refused(what: string, said = ""): Promise<FirectlError> {
    const { credentials, problem } = await this.#found();
    const { registry, scope } = this.#options;
    const distrusted = credentials === undefined ? undefined : this.#distrusted;
    if (distrusted !== undefined) {
      return new FirectlError(
        "AUTHENTICATION_FAILED",
        `${registry} refuses ${what}; its token server ${distrusted} is of another site and was not told the login${said}`,
        {
          hint: `if it may be, name it in config.json: "registryTokenServers": {"${registry}": ["${distrusted}"]}`,
        },
      );
    }
    if (scope === undefined) {
      return new FirectlError("AUTHENTICATION_FAILED", `${registry} refuses the login${said}`, {
        hint: "check the user name and the password; some registries want a token in its place",
      });
    }
    const who = credentials === undefined ? "without a login" : "with the stored login";
    const because = problem === undefined ? "" : ` (${problem})`;
    return new FirectlError("AUTHENTICATION_FAILED", `${registry} refuses ${what} ${who}${because}${said}`, {
      hint: `check the name, or log in with firectl login ${registry}`,
    });
  }

  #found(): Promise<FoundCredentials> {
    this.#credentials ??= this.#options.findCredentials();
    return this.#credentials;
  }

  async #password(): Promise<Credentials & { kind: "password" }> {
    const { credentials } = await this.#found();
    if (credentials?.kind === "password") return credentials;
    throw await this.refused("access");
  }

  #bearerScheme(challenge: Challenge): Scheme {
    const realmText = challenge.parameters.get("realm") ?? "";
    const realm = URL.canParse(realmText) ? new URL(realmText) : undefined;
    const isAllowed =
      realm?.protocol === "https:" || (realm?.protocol === "http:" && this.#mayBePlain(realm));
    if (realm === undefined || !isAllowed) {
      throw new FirectlError(
        "AUTHENTICATION_FAILED",
        `${this.#options.registry} names ${JSON.stringify(realmText.slice(0, 200))} as its token server: not an HTTPS address`,
      );
    }
    return { kind: "bearer", realm, service: challenge.parameters.get("service") };
  }

  /** Plain HTTP is for a token server only where the registry itself is marked insecure. */
  #mayBePlain(realm: URL): boolean {
    const { isInsecure, registry } = this.#options;
    return isInsecure(registry) && (realm.hostname === hostnameOf(registry) || isInsecure(realm.host));
  }

  /** Whether a token server may see the login. */
  #isTrusted(realm: URL): boolean {
    const { registry, tokenServers } = this.#options;
    const names = [realm.host, realm.hostname];
    return (
      isSameSite(realm.hostname, hostnameOf(registry)) || names.some((name) => tokenServers.includes(name))
    );
  }

  async #bearerToken(scheme: Scheme & { kind: "bearer" }, signal: AbortSignal | undefined): Promise<string> {
    const current = await this.#token?.catch(() => undefined);
    if (current !== undefined && Date.now() < current.renewAtMs) return current.value;
    // Parallel downloads share one renewal.
    const renewal = this.#renewing ?? this.#fetchToken(scheme, signal);
    this.#renewing = renewal;
    try {
      this.#token = renewal;
      return (await renewal).value;
    } finally {
      if (this.#renewing === renewal) this.#renewing = undefined;
    }
  }

  async #fetchToken(scheme: Scheme & { kind: "bearer" }, signal: AbortSignal | undefined): Promise<Token> {
    const { http } = this.#options;
    const found = (await this.#found()).credentials;
    const isTrusted = this.#isTrusted(scheme.realm);
    const credentials = isTrusted ? found : undefined;
    this.#distrusted = isTrusted ? undefined : scheme.realm.host;
    // An anonymous token would say nothing of the login that is to be checked.
    if (!isTrusted && found !== undefined && this.#options.scope === undefined)
      throw await this.refused("the login");
    const response =
      credentials?.kind === "identity-token"
        ? await this.#postRefreshToken(scheme, this.#identityToken ?? credentials.token, signal)
        : await http.send(this.#tokenUrl(scheme, credentials?.username), {
            method: "GET",
            authorization: credentials === undefined ? undefined : basic(credentials),
            signal,
          });
    const body = await http.readAll(response, {
      maxBytes: MAX_TOKEN_REPLY_BYTES,
      what: `the answer of ${scheme.realm.host}`,
      signal,
    });
    await this.#checkTokenStatus(response, scheme.realm);
    const { token, identityToken } = readToken(body, scheme.realm.host);
    this.#identityToken = identityToken ?? this.#identityToken;
    return token;
  }

  #tokenUrl(scheme: Scheme & { kind: "bearer" }, account: string | undefined): URL {
    const { scope, wantsIdentityToken = false } = this.#options;
    const url = new URL(scheme.realm);
    if (scheme.service !== undefined) url.searchParams.set("service", scheme.service);
    if (scope !== undefined) url.searchParams.set("scope", scope);
    if (account !== undefined) url.searchParams.set("account", account);
    if (wantsIdentityToken) {
      url.searchParams.set("client_id", "firectl");
      url.searchParams.set("offline_token", "true");
    }
    return url;
  }

  /** https://distribution.github.io/distribution/spec/auth/oauth/ */
  #postRefreshToken(
    scheme: Scheme & { kind: "bearer" },
    token: string,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      client_id: "firectl",
      service: scheme.service ?? "",
      ...(this.#options.scope === undefined ? {} : { scope: this.#options.scope }),
      refresh_token: token,
    });
    return this.#options.http.send(scheme.realm, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: form.toString(),
      signal,
    });
  }

  async #checkTokenStatus(response: HttpResponse, realm: URL): Promise<void> {
    const { status } = response;
    if (status >= 200 && status < 300) return;
    if (status === 401 || status === 403) throw await this.refused("a token");
    const failure = new FirectlError("REGISTRY_REFUSED", `token server ${realm.host} answers ${status}`);
    if (status !== 429 && status < 500) throw failure;
    throw new TransientFailure(failure, parseRetryAfter(response.headers["retry-after"], Date.now()));
  }
}

function readToken(body: Buffer, host: string): { token: Token; identityToken: string | undefined } {
  let reply: z.infer<typeof tokenSchema>;
  try {
    reply = tokenSchema.parse(JSON.parse(body.toString("utf8")));
  } catch {
    throw new FirectlError("AUTHENTICATION_FAILED", `token server ${host} does not answer with a token`);
  }
  const value = reply.token || reply.access_token;
  // It becomes part of a header.
  if (value === undefined || value === "" || !/^[\x21-\x7e]+$/.test(value)) {
    throw new FirectlError("AUTHENTICATION_FAILED", `token server ${host} answers without a usable token`);
  }
  const lifetimeS = reply.expires_in != null && reply.expires_in > 0 ? reply.expires_in : DEFAULT_LIFETIME_S;
  const usableS = Math.max(lifetimeS - RENEWAL_MARGIN_S, lifetimeS / 2);
  const token = { value, renewAtMs: Date.now() + usableS * 1000 };
  return { token, identityToken: reply.refresh_token || undefined };
}

function basic(credentials: Credentials & { kind: "password" }): string {
  const pair = `${credentials.username}:${credentials.password}`;
  return `Basic ${Buffer.from(pair, "utf8").toString("base64")}`;
}
