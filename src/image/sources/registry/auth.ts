import * as z from "zod";
import { FirectlError } from "../../../core/errors.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import type { Credentials, FoundCredentials } from "./credentials.ts";
import type { HttpClient, HttpResponse } from "./http.ts";
import { parseRetryAfter, TransientFailure } from "./retry.ts";

const MAX_TOKEN_REPLY_BYTES = 1024 * 1024;
/** https://distribution.github.io/distribution/spec/auth/token/: a token without a lifetime lives a minute. */
const DEFAULT_LIFETIME_S = 60;
/** A token is renewed so long before its end, or after half of a shorter life. */
const RENEWAL_MARGIN_S = 10;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().positive().optional(),
});

export interface RegistryAuthOptions {
  readonly http: HttpClient;
  /** The registry, as it is called in messages. */
  readonly registry: string;
  /** `repository:library/debian:pull`. */
  readonly scope: string;
  readonly isInsecure: (host: string) => boolean;
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

  constructor(options: RegistryAuthOptions) {
    this.#options = options;
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

  /** The error for a registry that refuses even so. */
  async refused(what: string): Promise<FirectlError> {
    const { credentials, problem } = await this.#found();
    const who = credentials === undefined ? "without a login" : "with the stored login";
    const because = problem === undefined ? "" : ` (${problem})`;
    return new FirectlError(
      "AUTHENTICATION_FAILED",
      `${this.#options.registry} refuses ${what} ${who}${because}`,
      {
        hint: `check the name, or log in with docker login ${this.#options.registry}`,
      },
    );
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
      realm?.protocol === "https:" || (realm?.protocol === "http:" && this.#options.isInsecure(realm.host));
    if (realm === undefined || !isAllowed) {
      throw new FirectlError(
        "AUTHENTICATION_FAILED",
        `${this.#options.registry} names ${JSON.stringify(realmText.slice(0, 200))} as its token server: not an HTTPS address`,
      );
    }
    return { kind: "bearer", realm, service: challenge.parameters.get("service") };
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
    const credentials = isSameSite(scheme.realm.hostname, hostnameOf(this.#options.registry))
      ? (await this.#found()).credentials
      : undefined;
    const response =
      credentials?.kind === "identity-token"
        ? await this.#postRefreshToken(scheme, credentials.token, signal)
        : await http.send(this.#tokenUrl(scheme), {
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
    return readToken(body, scheme.realm.host);
  }

  #tokenUrl(scheme: Scheme & { kind: "bearer" }): URL {
    const url = new URL(scheme.realm);
    if (scheme.service !== undefined) url.searchParams.set("service", scheme.service);
    url.searchParams.set("scope", this.#options.scope);
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
      scope: this.#options.scope,
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

function readToken(body: Buffer, host: string): Token {
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
  const lifetimeS = reply.expires_in ?? DEFAULT_LIFETIME_S;
  const usableS = Math.max(lifetimeS - RENEWAL_MARGIN_S, lifetimeS / 2);
  return { value, renewAtMs: Date.now() + usableS * 1000 };
}

function basic(credentials: Credentials & { kind: "password" }): string {
  const pair = `${credentials.username}:${credentials.password}`;
  return `Basic ${Buffer.from(pair, "utf8").toString("base64")}`;
}

function hostnameOf(registry: string): string {
  return new URL(`https://${registry}`).hostname;
}

/**
 * Whether a token server is the registry's own: the same host, or a neighbour under the same parent
 * (auth.docker.io for registry-1.docker.io, gitlab.com for registry.gitlab.com). Another one gets no
 * credentials, whatever the registry says; CVE-2020-15157 is about what comes of that.
 */
export function isSameSite(realm: string, registry: string): boolean {
  if (realm === registry) return true;
  const isAddress = /^[\d.]+$|:/.test(realm) || /^[\d.]+$|:/.test(registry);
  if (isAddress) return false;
  const shared = commonSuffixLabels(realm.split("."), registry.split("."));
  return shared >= 2;
}

function commonSuffixLabels(a: readonly string[], b: readonly string[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a.at(-1 - count) === b.at(-1 - count)) count++;
  return count;
}
