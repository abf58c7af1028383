import { FirectlError } from "../../../core/errors.ts";
import { redactForeign } from "../../../core/redact.ts";
import { RegistryAuth } from "./auth.ts";
import type { Network } from "./connections.ts";
import type { FoundCredentials } from "./credentials.ts";
import { discard, HttpClient, type HttpRequest, type HttpResponse } from "./http.ts";
import { DOCKER_HUB_API } from "./network.ts";
import { parseRetryAfter, TransientFailure } from "./retry.ts";

/** A server that speaks plain HTTP may stay silent when it is greeted in TLS. */
const PROBE_TIMEOUT_MS = 10_000;
const HEAD_TIMEOUT_MS = 60_000;
const IDLE_TIMEOUT_MS = 30_000;
const MAX_ERROR_BODY_BYTES = 64 * 1024;

export interface EndpointOptions {
  /** `docker.io`, `localhost:5000`. */
  readonly domain: string;
  /** Undefined: HTTPS, or plain HTTP where that is allowed and all there is. */
  readonly protocol?: "https:" | "http:" | undefined;
  /** What a token is to be for, `repository:library/debian:pull`. */
  readonly scope: string | undefined;
  readonly network: Network;
  readonly tokenServers: readonly string[];
  readonly findCredentials: () => Promise<FoundCredentials>;
  readonly wantsIdentityToken?: boolean;
  /** Time for connecting and for the head of an answer. */
  readonly headTimeoutMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
}

/**
 * A registry's API: where it is, what proves to it who asks, what its refusals mean.
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md
 */
export class RegistryEndpoint implements Disposable {
  readonly #options: EndpointOptions;
  readonly #auth: RegistryAuth;
  readonly http: HttpClient;
  #base: Promise<URL> | undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
    const { domain: registry, network, ...rest } = options;
    const { headTimeoutMs = HEAD_TIMEOUT_MS, idleTimeoutMs = IDLE_TIMEOUT_MS } = options;
    this.http = new HttpClient({ network, headTimeoutMs, idleTimeoutMs });
    this.#auth = new RegistryAuth({ ...rest, http: this.http, registry, isInsecure: network.isInsecure });
  }

  [Symbol.dispose](): void {
    this.http[Symbol.dispose]();
  }

  /**
   * Sends a request, answering the registry's challenge; its status is checked.
   * @param resource Below `/v2/`.
   * @param what Names the resource in errors.
   * @throws FirectlError IMAGE_NOT_FOUND, AUTHENTICATION_FAILED, REGISTRY_*; TransientFailure.
   */
  async send(resource: string, what: string, request: HttpRequest): Promise<HttpResponse> {
    const url = new URL(resource, await this.#located(request.signal));
    for (let isRetry = false; ; isRetry = true) {
      const authorization = await this.#auth.authorization(request.signal);
      const response = await this.http.send(url, { ...request, authorization });
      if (response.status >= 200 && response.status < 300) return response;
      // A challenge counts only from the registry itself, not from where it redirected to.
      const isOwn = response.url.origin === url.origin;
      if (response.status !== 401 || !isOwn || isRetry) throw await this.#failure(response, what);
      discard(response);
      await this.#auth.challenged(response, authorization);
    }
  }

  /**
   * Has the registry check the login, also one that lets anybody read.
   * @returns The identity token that its token server gives in the password's place, if it does.
   * @throws FirectlError AUTHENTICATION_FAILED, REGISTRY_*; TransientFailure.
   */
  async logIn(signal: AbortSignal | undefined): Promise<string | undefined> {
    await this.#located(signal);
    this.#auth.assumeBasic();
    const response = await this.send("", "access", { method: "GET", signal });
    discard(response);
    return this.#auth.identityToken;
  }

  async #located(signal: AbortSignal | undefined): Promise<URL> {
    this.#base ??= this.#findBase(signal);
    return this.#base.catch((error: unknown) => {
      this.#base = undefined;
      throw error;
    });
  }

  async #findBase(signal: AbortSignal | undefined): Promise<URL> {
    const { domain, network, protocol, headTimeoutMs = HEAD_TIMEOUT_MS } = this.#options;
    const host = domain === "docker.io" ? DOCKER_HUB_API : domain;
    const [secure, plain] = [new URL(`https://${host}/v2/`), new URL(`http://${host}/v2/`)];
    const isInsecure = network.isInsecure(host);
    if (protocol === "http:") {
      if (!isInsecure) throw plainHttpUnwanted(host);
      return this.#probed(plain, { signal });
    }
    if (!isInsecure || protocol === "https:") return this.#probed(secure, { signal });
    try {
      return await this.#probed(secure, { headTimeoutMs: Math.min(PROBE_TIMEOUT_MS, headTimeoutMs), signal });
    } catch (error) {
      signal?.throwIfAborted();
      // A server that did answer speaks HTTPS, whatever it said.
      const failure = error instanceof TransientFailure ? error.failure : error;
      if (!(failure instanceof FirectlError && failure.code === "REGISTRY_UNREACHABLE")) throw error;
      // Whatever is wrong with the host itself shows again here.
      return this.#probed(plain, { signal });
    }
  }

  /** Asks for the API's root, without credentials, to learn how it wants to be asked. */
  async #probed(
    base: URL,
    options: { headTimeoutMs?: number; signal: AbortSignal | undefined },
  ): Promise<URL> {
    const response = await this.http.send(base, { method: "GET", ...options });
    if (response.status === 401 && response.url.origin === base.origin) {
      discard(response);
      await this.#auth.challenged(response, undefined);
    } else if (response.status === 429 || response.status >= 500) {
      throw await this.#failure(response, base.href);
    } else {
      discard(response);
    }
    return base;
  }

  async #failure(response: HttpResponse, what: string): Promise<Error> {
    const { status } = response;
    const said = await this.#errorText(response, what);
    if (status === 401 || status === 403) return this.#auth.refused(what, said);
    if (status === 404) {
      return new FirectlError("IMAGE_NOT_FOUND", `there is no ${what}${said}`, {
        hint: "check the name and the tag",
      });
    }
    const host = response.url.host;
    const failure = new FirectlError("REGISTRY_REFUSED", `${host} answers ${status} to ${what}${said}`, {
      ...(status === 429 ? { hint: "it limits its users' rate: log in, or try again later" } : {}),
    });
    if (status !== 408 && status !== 429 && status < 500) return failure;
    return new TransientFailure(failure, parseRetryAfter(response.headers["retry-after"], Date.now()));
  }

  /** What a registry says about a failure of `what`, made fit for a terminal. */
  async #errorText(response: HttpResponse, what: string): Promise<string> {
    let text: string;
    try {
      const options = { maxBytes: MAX_ERROR_BODY_BYTES, what: "an error" };
      text = (await this.http.readAll(response, options)).toString("utf8");
    } catch {
      return "";
    }
    const message = /"message"\s*:\s*"((?:[^"\\]|\\.){1,200})"/.exec(text)?.[1];
    if (message === undefined) return "";
    const reference = what.replace(/\/manifests\/(?=[^/]+$)/, ":");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal.
    return `: ${redactForeign(message, [reference]).replace(/[\x00-\x1f\x7f-\x9f]/g, " ")}`;
  }
}

function plainHttpUnwanted(host: string): FirectlError {
  return new FirectlError("REGISTRY_UNREACHABLE", `http://${host} is in plain HTTP, which is not allowed`, {
    hint: `to allow it, name ${host} in FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config.json`,
  });
}
