import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import { errnoOf, FirectlError, messageOf } from "../../../core/errors.ts";
import { bodyChunks } from "./body.ts";
import { Connections, type Network } from "./connections.ts";
import { isTransientErrno, TransientFailure } from "./retry.ts";
import { proxyWantsLogin } from "./tunnel.ts";

/** Hops of a redirected request; registries need one. */
const MAX_REDIRECTS = 5;
/** A whole small body may take as long as so many silences: it must not come a byte at a time. */
const SMALL_BODY_SILENCES = 4;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent to the origin of the first URL only. */
  readonly authorization?: string | undefined;
  readonly body?: string;
  /** See {@link HttpOptions.headTimeoutMs}, for this request. */
  readonly headTimeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Where the answer came from in the end. */
  readonly url: URL;
  readonly body: IncomingMessage;
}

export interface HttpOptions {
  readonly network: Network;
  /** Time for connecting and for the head of the answer. */
  readonly headTimeoutMs: number;
  /** Longest silence within a body. */
  readonly idleTimeoutMs: number;
}

/** What is not wanted of an answer is read so far, to keep the connection; beyond that it is not worth it. */
const MAX_DISCARDED_BYTES = 64 * 1024;

/** Gives up a body that nobody reads. */
export function discard({ body }: HttpResponse): void {
  let size = 0;
  body.on("data", (chunk: Uint8Array) => {
    size += chunk.byteLength;
    if (size > MAX_DISCARDED_BYTES) body.destroy();
  });
}

/** HTTP as the registry protocol needs it: kept connections, deadlines, redirects that leak nothing. */
export class HttpClient implements Disposable {
  readonly #headTimeoutMs: number;
  readonly #idleTimeoutMs: number;
  readonly #connections: Connections;

  constructor(options: HttpOptions) {
    this.#headTimeoutMs = options.headTimeoutMs;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#connections = new Connections(options.network, { tunnelTimeoutMs: options.headTimeoutMs });
  }

  [Symbol.dispose](): void {
    this.#connections[Symbol.dispose]();
  }

  /**
   * Sends a request and follows its redirects by hand: credentials never leave the origin that they are for,
   * and nobody is led from HTTPS to plain HTTP.
   * @throws TransientFailure when trying again may help; FirectlError REGISTRY_UNREACHABLE, REGISTRY_REFUSED.
   */
  async send(url: URL, request: HttpRequest): Promise<HttpResponse> {
    let target = url;
    let isHome = true;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const response = await this.#sendOnce(target, request, isHome ? request.authorization : undefined);
      const location = response.headers.location;
      // A POST carries a secret in its body, which must not go elsewhere either.
      const isRedirect = [301, 302, 303, 307, 308].includes(response.status) && request.method !== "POST";
      if (!isRedirect || location === undefined) return response;
      discard(response);
      target = redirectTarget(target, location);
      // Whoever leads away does not say where the credentials go when it leads back.
      isHome = isHome && target.origin === url.origin;
      if (target.protocol === "http:" && !this.#isPlainAllowed(url, target)) {
        throw new FirectlError("REGISTRY_REFUSED", `${url.host} redirects to plain HTTP at ${target.host}`, {
          hint: `if that is meant to be, name ${target.host} in FIRECTL_INSECURE_REGISTRIES`,
        });
      }
    }
    throw new FirectlError("REGISTRY_REFUSED", `${url.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  #isPlainAllowed(from: URL, to: URL): boolean {
    return this.#connections.isInsecure(from) && this.#connections.isInsecure(to);
  }

  async #sendOnce(url: URL, request: HttpRequest, authorization: string | undefined): Promise<HttpResponse> {
    for (let isAgain = false; ; isAgain = true) {
      try {
        return await this.#exchange(url, request, authorization);
      } catch (error) {
        if (isAgain || !(await this.#mayHelpAgain(url, error))) throw this.#failureOf(url, error);
      }
    }
  }

  #failureOf(url: URL, error: unknown): unknown {
    return failureOf({ url, proxy: this.#connections.proxyNameFor(url) }, error);
  }

  async #mayHelpAgain(url: URL, error: unknown): Promise<boolean> {
    if (error instanceof StaleConnection) {
      this.#connections.dropIdle(url);
      return true;
    }
    return isUnknownAuthority(error) && this.#connections.trustAll(url);
  }

  #exchange(url: URL, request: HttpRequest, authorization: string | undefined): Promise<HttpResponse> {
    request.signal?.throwIfAborted();
    const route = this.#connections.route(url);
    return new Promise((resolve, reject) => {
      const outgoing: ClientRequest = route.request({
        ...route.options,
        method: request.method,
        headers: {
          "user-agent": "firectl",
          // What is downloaded must be the bytes that the digest is of.
          "accept-encoding": "identity",
          ...route.headers,
          ...request.headers,
          ...(authorization === undefined ? {} : { authorization }),
          ...(request.body === undefined ? {} : { "content-length": Buffer.byteLength(request.body) }),
        },
        ...(request.signal === undefined ? {} : { signal: request.signal }),
      });
      const timer = setTimeout(() => {
        outgoing.destroy(timedOut("no answer"));
      }, request.headTimeoutMs ?? this.#headTimeoutMs);
      outgoing.once("response", (body) => {
        clearTimeout(timer);
        const status = body.statusCode ?? 0;
        if (status === 407 && route.proxy !== undefined && url.protocol === "http:") {
          body.destroy();
          reject(proxyWantsLogin(route.proxy));
          return;
        }
        resolve({ status, headers: body.headers, url, body });
      });
      // It stays for the life of the request: a late error of the socket must not be unhandled.
      outgoing.on("error", (error) => {
        clearTimeout(timer);
        if (request.signal?.aborted === true) reject(request.signal.reason);
        else
          reject(outgoing.reusedSocket && isLeftBehind(request, error) ? new StaleConnection(error) : error);
      });
      outgoing.end(request.body);
    });
  }

  /** The chunks of a body; a silence longer than the idle timeout, or a connection that breaks, is transient. */
  async *chunks(response: HttpResponse, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const { body, url } = response;
    const idleTimeoutMs = this.#idleTimeoutMs;
    const timer = setTimeout(() => {
      body.destroy(timedOut(`nothing came for ${idleTimeoutMs / 1000} s`));
    }, idleTimeoutMs);
    try {
      for await (const chunk of bodyChunks(body)) {
        timer.refresh();
        yield chunk;
        // What the reader took for its own work is not the network's silence.
        timer.refresh();
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#failureOf(url, error);
    } finally {
      clearTimeout(timer);
      body.destroy();
    }
  }

  /**
   * All of a small body.
   * @throws FirectlError REGISTRY_REFUSED when it is larger than `maxBytes`.
   */
  async readAll(
    response: HttpResponse,
    options: { maxBytes: number; what: string; signal?: AbortSignal | undefined },
  ): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    let size = 0;
    const timeoutMs = this.#idleTimeoutMs * SMALL_BODY_SILENCES;
    const timer = setTimeout(() => {
      response.body.destroy(timedOut(`${options.what} did not come within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    try {
      for await (const chunk of this.chunks(response, options.signal)) {
        size += chunk.byteLength;
        if (size > options.maxBytes) throw tooLarge(options.what, options.maxBytes);
        parts.push(chunk);
      }
    } finally {
      clearTimeout(timer);
    }
    return Buffer.concat(parts);
  }
}

function timedOut(message: string): Error {
  return Object.assign(new Error(message), { code: "ETIMEDOUT" });
}

function tooLarge(what: string, maxBytes: number): FirectlError {
  return new FirectlError("REGISTRY_REFUSED", `${what} is larger than ${maxBytes} bytes`);
}

function redirectTarget(from: URL, location: string): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target === undefined || (target.protocol !== "https:" && target.protocol !== "http:")) {
    throw new FirectlError(
      "REGISTRY_REFUSED",
      `${from.host} redirects to something that is not a web address`,
    );
  }
  return target;
}

/** A kept connection that the server ended just when it was used again: a new one may work at once. */
class StaleConnection extends Error {
  override readonly cause: Error;

  constructor(cause: Error) {
    super(cause.message);
    this.cause = cause;
  }
}

function isLeftBehind(request: HttpRequest, error: Error): boolean {
  return request.method !== "POST" && ["ECONNRESET", "EPIPE"].includes(errnoOf(error) ?? "");
}

/** Certificates that are right as far as can be told, but that nobody known vouches for. */
const UNKNOWN_AUTHORITY = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
]);

function isUnknownAuthority(error: unknown): boolean {
  return UNKNOWN_AUTHORITY.has(errnoOf(error) ?? "");
}

/** What the caller of a request is told of what Node or a tunnel threw; an abort's reason stays what it is. */
function failureOf(where: { url: URL; proxy: string | undefined }, thrown: unknown): unknown {
  const { url, proxy } = where;
  const error = thrown instanceof StaleConnection ? thrown.cause : thrown;
  if (error instanceof FirectlError || error instanceof TransientFailure) return error;
  const errno = errnoOf(error);
  if (errno === undefined || errno === "ABORT_ERR") return error;
  if (speaksPlainHttp(error)) return plainHttpRegistry(url, error);
  const way = proxy === undefined ? "" : ` through proxy ${proxy}`;
  const message = `cannot reach ${url.host}${way}: ${reasonOf(error)}`;
  const failure = new FirectlError("REGISTRY_UNREACHABLE", message, {
    hint: hintFor(url, errno),
    cause: error,
  });
  return isTransientErrno(errno) ? new TransientFailure(failure) : failure;
}

/** OpenSSL's words for an answer in plain text to its greeting. */
function speaksPlainHttp(error: unknown): boolean {
  return /wrong version number|packet length too long|http request|unknown protocol/i.test(messageOf(error));
}

function plainHttpRegistry(url: URL, error: unknown): FirectlError {
  return new FirectlError(
    "REGISTRY_UNREACHABLE",
    `${url.host} does not speak HTTPS; it may be a registry in plain HTTP`,
    {
      hint: `if it is and you trust the network to it, name ${url.host} in FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config.json`,
      cause: error,
    },
  );
}

function hintFor(url: URL, errno: string): string {
  const insecure = `name ${url.host} in FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config.json`;
  if (/^ERR_(?:SSL|OSSL|TLS)_.*CERTIFICATE_REQUIRED|ALERT_(?:BAD_CERTIFICATE|HANDSHAKE)/.test(errno)) {
    return `if it asks for a client certificate, put that into ~/.config/containers/certs.d/${url.host}/ as client.cert and client.key`;
  }
  if (UNKNOWN_AUTHORITY.has(errno)) {
    return `put its authority's certificate into ~/.config/containers/certs.d/${url.host}/ca.crt, make it known with NODE_EXTRA_CA_CERTS, or ${insecure}`;
  }
  if (/CERT/.test(errno)) return `have its certificate mended, or ${insecure}`;
  return "check the name, the network and a proxy in between, then try again";
}

/** Of several addresses that were tried in vain, the first one's failure; Node's own message is empty. */
function reasonOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  return messageOf(first);
}
