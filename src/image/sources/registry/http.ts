import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import { errnoOf, FirectlError } from "../../../core/errors.ts";
import { bodyChunks } from "./body.ts";
import { Connections, type Network } from "./connections.ts";
import { failureOf, isUnknownAuthority, StaleConnection } from "./http-failure.ts";
import type { ProxyServer } from "./proxy.ts";
import { proxyWantsLogin } from "./tunnel.ts";

/** Hops of a redirected request; registries need one. */
const MAX_REDIRECTS = 5;
/** A whole small body may take as long as so many silences: it must not come a byte at a time. */
const SMALL_BODY_SILENCES = 4;

/** https://www.rfc-editor.org/rfc/rfc9110#status.101 */
const SWITCHING_PROTOCOLS = 101;

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

  async #exchange(url: URL, request: HttpRequest, authorization: string | undefined): Promise<HttpResponse> {
    request.signal?.throwIfAborted();
    const route = this.#connections.route(url);
    const outgoing = route.request({
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
    const answer = answerTo(outgoing, {
      url,
      request,
      proxy: route.proxy,
      timeoutMs: request.headTimeoutMs ?? this.#headTimeoutMs,
    });
    outgoing.end(request.body);
    const body = await answer;
    const status = body.statusCode ?? 0;
    if (status === 407 && route.proxy !== undefined && url.protocol === "http:") {
      body.destroy();
      throw proxyWantsLogin(route.proxy);
    }
    return { status, headers: body.headers, url, body };
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

interface Asked {
  readonly url: URL;
  readonly request: HttpRequest;
  readonly proxy: ProxyServer | undefined;
  readonly timeoutMs: number;
}

/**
 * The head of the answer to `outgoing`. Time and the caller's signal reject by themselves: of a request that is
 * destroyed while its agent still opens the connection, Node says nothing.
 */
function answerTo(outgoing: ClientRequest, asked: Asked): Promise<IncomingMessage> {
  const { request, proxy, timeoutMs } = asked;
  const { signal } = request;
  return new Promise((resolve, reject) => {
    const stopWaiting = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    const fail = (error: unknown): void => {
      stopWaiting();
      reject(error);
    };
    const onAbort = (): void => fail(signal?.reason);
    const onError = (error: Error): void => {
      if (signal?.aborted === true) fail(signal.reason);
      else fail(outgoing.reusedSocket && isLeftBehind(request, error) ? new StaleConnection(error) : error);
    };
    const refuseSwitch = (): void => {
      fail(switchesProtocol(asked));
      outgoing.destroy();
    };
    const timer = setTimeout(() => {
      // Without a socket it is the tunnel that is waited for.
      const isInTunnel = proxy !== undefined && outgoing.socket === null;
      fail(timedOut(isInTunnel ? "the proxy does not answer" : "no answer"));
      outgoing.destroy();
    }, timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    outgoing.once("response", (answer) => {
      // With no protocol named it comes as an answer, whose body would have no end.
      if (answer.statusCode === SWITCHING_PROTOCOLS) return refuseSwitch();
      stopWaiting();
      resolve(answer);
    });
    // Without a listener Node would end the connection and report no error.
    outgoing.once("upgrade", (_answer, socket) => {
      socket.destroy();
      refuseSwitch();
    });
    // It stays for the life of the request: a late error of the socket must not be unhandled.
    outgoing.on("error", onError);
    // The last event of every request, whatever came before it.
    outgoing.once("close", () => onError(closedEarly()));
  });
}

function switchesProtocol({ url, proxy }: Asked): FirectlError {
  const way = proxy === undefined ? "" : ` through proxy ${proxy.name}`;
  return new FirectlError(
    "REGISTRY_REFUSED",
    // Without the query, which may hold a signature.
    `${url.origin}${url.pathname}${way} answers ${SWITCHING_PROTOCOLS}, a change of protocol that nobody asked for`,
    { hint: "check that the name is a registry's, and that no proxy in between answers for it" },
  );
}

function closedEarly(): Error {
  return Object.assign(new Error("the connection was closed without an answer"), { code: "ECONNRESET" });
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

function isLeftBehind(request: HttpRequest, error: Error): boolean {
  return request.method !== "POST" && ["ECONNRESET", "EPIPE"].includes(errnoOf(error) ?? "");
}
