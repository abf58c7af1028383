import http, { type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import https from "node:https";
import { errnoOf, FirectlError, messageOf } from "../../../core/errors.ts";
import { isTransientErrno, TransientFailure } from "./retry.ts";

/** Hops of a redirected request; registries need one. */
const MAX_REDIRECTS = 5;
const HEAD_TIMEOUT_MS = 60_000;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent to the origin of the first URL only. */
  readonly authorization?: string | undefined;
  readonly body?: string;
  /** Time for connecting and for the head of the answer. */
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
  /** Whether plain HTTP may be spoken to that host, and its certificate be wrong. */
  readonly isInsecure: (host: string) => boolean;
  /** Longest silence within a body. */
  readonly idleTimeoutMs: number;
}

/** HTTP as the registry protocol needs it: kept connections, deadlines, redirects that leak nothing. */
export class HttpClient implements Disposable {
  readonly #options: HttpOptions;
  readonly #agents = {
    plain: new http.Agent({ keepAlive: true }),
    secure: new https.Agent({ keepAlive: true }),
    unverified: new https.Agent({ keepAlive: true, rejectUnauthorized: false }),
  };

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  [Symbol.dispose](): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /**
   * Sends a request and follows its redirects by hand: credentials never leave the origin that they are for,
   * and nobody is led from HTTPS to plain HTTP.
   * @throws TransientFailure when trying again may help; FirectlError REGISTRY_UNREACHABLE, REGISTRY_REFUSED.
   */
  async send(url: URL, request: HttpRequest): Promise<HttpResponse> {
    let target = url;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const isHome = target.origin === url.origin;
      const response = await this.#sendOnce(target, request, isHome ? request.authorization : undefined);
      const location = response.headers.location;
      // A POST carries a secret in its body, which must not go elsewhere either.
      const isRedirect = [301, 302, 303, 307, 308].includes(response.status) && request.method !== "POST";
      if (!isRedirect || location === undefined) return response;
      response.body.resume();
      target = redirectTarget(target, location);
      if (target.protocol === "http:" && !(this.#isInsecure(url) && this.#isInsecure(target))) {
        throw new FirectlError("REGISTRY_REFUSED", `${url.host} redirects to plain HTTP at ${target.host}`, {
          hint: `if that is meant to be, name ${target.host} in FIRECTL_INSECURE_REGISTRIES`,
        });
      }
    }
    throw new FirectlError("REGISTRY_REFUSED", `${url.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  #isInsecure(url: URL): boolean {
    return this.#options.isInsecure(url.host);
  }

  #sendOnce(url: URL, request: HttpRequest, authorization: string | undefined): Promise<HttpResponse> {
    request.signal?.throwIfAborted();
    const isSecure = url.protocol === "https:";
    const agents = this.#agents;
    const secureAgent = this.#isInsecure(url) ? agents.unverified : agents.secure;
    return new Promise((resolve, reject) => {
      const outgoing = (isSecure ? https : http).request(url, {
        method: request.method,
        agent: isSecure ? secureAgent : agents.plain,
        headers: {
          "user-agent": "firectl",
          // What is downloaded must be the bytes that the digest is of.
          "accept-encoding": "identity",
          ...request.headers,
          ...(authorization === undefined ? {} : { authorization }),
          ...(request.body === undefined ? {} : { "content-length": Buffer.byteLength(request.body) }),
        },
        ...(request.signal === undefined ? {} : { signal: request.signal }),
      });
      const timer = setTimeout(() => {
        outgoing.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" }));
      }, request.headTimeoutMs ?? HEAD_TIMEOUT_MS);
      outgoing.once("response", (body) => {
        clearTimeout(timer);
        resolve({ status: body.statusCode ?? 0, headers: body.headers, url, body });
      });
      // It stays for the life of the request: a late error of the socket must not be unhandled.
      outgoing.on("error", (error) => {
        clearTimeout(timer);
        reject(request.signal?.aborted === true ? request.signal.reason : connectionError(url, error));
      });
      outgoing.end(request.body);
    });
  }

  /** The chunks of a body; a silence longer than the idle timeout, or a connection that breaks, is transient. */
  async *chunks(response: HttpResponse, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const { body, url } = response;
    const idleTimeoutMs = this.#options.idleTimeoutMs;
    const timer = setTimeout(() => {
      body.destroy(
        Object.assign(new Error(`nothing came for ${idleTimeoutMs / 1000} s`), { code: "ETIMEDOUT" }),
      );
    }, idleTimeoutMs);
    try {
      const chunks: AsyncIterable<Uint8Array> = body;
      for await (const chunk of chunks) {
        timer.refresh();
        yield chunk;
        // What the reader took for its own work is not the network's silence.
        timer.refresh();
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof FirectlError ? error : connectionError(url, error);
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
    for await (const chunk of this.chunks(response, options.signal)) {
      size += chunk.byteLength;
      if (size > options.maxBytes) {
        throw new FirectlError(
          "REGISTRY_REFUSED",
          `${options.what} is larger than ${options.maxBytes} bytes`,
        );
      }
      parts.push(chunk);
    }
    return Buffer.concat(parts);
  }
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

function connectionError(url: URL, error: unknown): Error {
  const errno = errnoOf(error);
  const isCertificate = errno !== undefined && /CERT|SELF_SIGNED|UNABLE_TO_/.test(errno);
  const failure = new FirectlError("REGISTRY_UNREACHABLE", `cannot reach ${url.host}: ${messageOf(error)}`, {
    hint: isCertificate
      ? `make its certificate authority known with NODE_EXTRA_CA_CERTS, or name ${url.host} in FIRECTL_INSECURE_REGISTRIES`
      : "check the name, the network and a proxy in between, then try again",
    cause: error,
  });
  return isTransientErrno(errno) ? new TransientFailure(failure) : failure;
}
