import type { Digest } from "../../../core/brands.ts";
import { parseDigest } from "../../../core/brands.ts";
import { FirectlError } from "../../../core/errors.ts";
import { MAX_MANIFEST_BYTES } from "../../manifest.ts";
import { ACCEPTED_MANIFESTS } from "../../media-types.ts";
import { type BlobDescriptor, sha256 } from "../../store/content-store.ts";
import type { RawManifest } from "../copy-image.ts";
import { RegistryAuth } from "./auth.ts";
import { findCredentials } from "./credentials.ts";
import { HttpClient, type HttpRequest, type HttpResponse } from "./http.ts";
import {
  parseRetryAfter,
  pauseBeforeRetry,
  type RetryOptions,
  TransientFailure,
  withRetries,
} from "./retry.ts";

/** Docker Hub's API is not at the name that its images carry. */
const DOCKER_HUB_API = "registry-1.docker.io";
/** A server that speaks plain HTTP may stay silent when it is greeted in TLS. */
const PROBE_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 30_000;
const ATTEMPTS = 6;
const FIRST_DELAY_MS = 500;
/** So much received since the last failure makes a connection count as working. */
const PROGRESS_BYTES = 64 * 1024;
const MAX_ERROR_BODY_BYTES = 64 * 1024;

export interface RegistryClientOptions {
  /** `docker.io`, `localhost:5000`. */
  readonly domain: string;
  /** `library/debian`. */
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
  readonly isInsecure: (host: string) => boolean;
  readonly onRetry: (reason: string, delayMs: number) => void;
  readonly firstDelayMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
}

/**
 * One repository of a registry, read through the Distribution API v2.
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md
 */
export class RegistryClient implements Disposable {
  readonly #options: RegistryClientOptions;
  readonly #http: HttpClient;
  readonly #auth: RegistryAuth;
  #base: Promise<URL> | undefined;

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#http = new HttpClient({
      isInsecure: options.isInsecure,
      idleTimeoutMs: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    });
    this.#auth = new RegistryAuth({
      http: this.#http,
      registry: options.domain,
      scope: `repository:${options.path}:pull`,
      isInsecure: options.isInsecure,
      findCredentials: () => findCredentials(options, { env: options.env }),
    });
  }

  [Symbol.dispose](): void {
    this.#http[Symbol.dispose]();
  }

  /**
   * The digest that a tag stands for now, undefined when the registry does not tell.
   * @throws FirectlError IMAGE_NOT_FOUND, AUTHENTICATION_FAILED, REGISTRY_*.
   */
  headManifest(tag: string, signal: AbortSignal | undefined): Promise<Digest | undefined> {
    return withRetries(this.#retry(signal), async () => {
      const response = await this.#send(`manifests/${tag}`, {
        method: "HEAD",
        headers: { accept: ACCEPTED_MANIFESTS },
        signal,
      });
      response.body.resume();
      return announcedDigest(response);
    });
  }

  /**
   * A manifest or index by tag or digest, verified against the digest where there is one.
   * @throws FirectlError IMAGE_NOT_FOUND, AUTHENTICATION_FAILED, REGISTRY_*, DIGEST_MISMATCH.
   */
  getManifest(tagOrDigest: string, signal: AbortSignal | undefined): Promise<RawManifest> {
    return withRetries(this.#retry(signal), async () => {
      const response = await this.#send(`manifests/${tagOrDigest}`, {
        method: "GET",
        headers: { accept: ACCEPTED_MANIFESTS },
        signal,
      });
      const what = `the manifest of ${this.#name}:${tagOrDigest}`;
      const bytes = await this.#http.readAll(response, { maxBytes: MAX_MANIFEST_BYTES, what, signal });
      const expected = parseDigest(tagOrDigest) ?? announcedDigest(response);
      const actual = sha256(bytes);
      if (expected !== undefined && expected !== actual) {
        throw new FirectlError("DIGEST_MISMATCH", `${what} has the digest ${actual}, expected ${expected}`);
      }
      // Parameters such as charset say nothing here.
      return { bytes, mediaType: response.headers["content-type"]?.split(";", 1)[0]?.trim() };
    });
  }

  /**
   * A blob's bytes from `offset` on. A transfer that breaks is continued where it broke.
   * @throws FirectlError DIGEST_MISMATCH when it is known to be of another size, REGISTRY_*.
   */
  async *getBlob(
    blob: BlobDescriptor,
    options: { offset: number; signal: AbortSignal | undefined },
  ): AsyncGenerator<Uint8Array> {
    let position = options.offset;
    let failedAt = position;
    let count = 0;
    while (position < blob.size) {
      try {
        for await (const chunk of this.#blobFrom(blob, position, options.signal)) {
          position += chunk.byteLength;
          yield chunk;
        }
        if (position < blob.size) throw new TransientFailure(endsEarly(blob, position));
      } catch (error) {
        if (position - failedAt >= PROGRESS_BYTES) count = 0;
        failedAt = position;
        count += 1;
        await pauseBeforeRetry(error, { ...this.#retry(options.signal), count });
      }
    }
  }

  get #name(): string {
    return `${this.#options.domain}/${this.#options.path}`;
  }

  #retry(signal: AbortSignal | undefined): RetryOptions {
    return {
      attempts: ATTEMPTS,
      firstDelayMs: this.#options.firstDelayMs ?? FIRST_DELAY_MS,
      onRetry: this.#options.onRetry,
      signal,
    };
  }

  async *#blobFrom(
    blob: BlobDescriptor,
    position: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const response = await this.#send(`blobs/${blob.digest}`, {
      method: "GET",
      headers: position === 0 ? {} : { range: `bytes=${position}-${blob.size - 1}` },
      signal,
    });
    let skip = checkedSkip(response, blob, position);
    for await (const chunk of this.#http.chunks(response, signal)) {
      const rest = chunk.subarray(Math.min(skip, chunk.byteLength));
      skip -= chunk.byteLength - rest.byteLength;
      if (rest.byteLength > 0) yield rest;
    }
  }

  /** Sends a request for this repository, answering the registry's challenge; its status is checked. */
  async #send(resource: string, request: HttpRequest): Promise<HttpResponse> {
    this.#base ??= this.#findBase(request.signal);
    const base = await this.#base.catch((error: unknown) => {
      this.#base = undefined;
      throw error;
    });
    const url = new URL(`${this.#options.path}/${resource}`, base);
    for (let isRetry = false; ; isRetry = true) {
      const authorization = await this.#auth.authorization(request.signal);
      const response = await this.#http.send(url, { ...request, authorization });
      if (response.status >= 200 && response.status < 300) return response;
      // A challenge counts only from the registry itself, not from where it redirected to.
      const isOwn = response.url.origin === url.origin;
      if (response.status !== 401 || !isOwn || isRetry) {
        throw await this.#failure(response, `${this.#name}/${resource}`);
      }
      response.body.resume();
      await this.#auth.challenged(response, authorization);
    }
  }

  /** Where the registry's API is: over HTTPS, or plain HTTP where that is allowed and all there is. */
  async #findBase(signal: AbortSignal | undefined): Promise<URL> {
    const host = this.#options.domain === "docker.io" ? DOCKER_HUB_API : this.#options.domain;
    const secure = new URL(`https://${host}/v2/`);
    if (!this.#options.isInsecure(host)) return this.#probed(secure, { signal });
    try {
      return await this.#probed(secure, { headTimeoutMs: PROBE_TIMEOUT_MS, signal });
    } catch (error) {
      signal?.throwIfAborted();
      // A server that did answer speaks HTTPS, whatever it said.
      const failure = error instanceof TransientFailure ? error.failure : error;
      if (!(failure instanceof FirectlError && failure.code === "REGISTRY_UNREACHABLE")) throw error;
      // Whatever is wrong with the host itself shows again here.
      return this.#probed(new URL(`http://${host}/v2/`), { signal });
    }
  }

  /** Asks for the API's root, without credentials, to learn how it wants to be asked. */
  async #probed(
    base: URL,
    options: { headTimeoutMs?: number; signal: AbortSignal | undefined },
  ): Promise<URL> {
    const response = await this.#http.send(base, { method: "GET", ...options });
    response.body.resume();
    if (response.status === 401 && response.url.origin === base.origin) {
      await this.#auth.challenged(response, undefined);
    } else if (response.status === 429 || response.status >= 500) {
      throw await this.#failure(response, base.href);
    }
    return base;
  }

  async #failure(response: HttpResponse, what: string): Promise<Error> {
    const { status } = response;
    const said = await this.#errorText(response);
    if (status === 401 || status === 403) return this.#auth.refused(`${what}${said}`);
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

  /** What a registry says about a failure, made fit for a terminal. */
  async #errorText(response: HttpResponse): Promise<string> {
    let text: string;
    try {
      const options = { maxBytes: MAX_ERROR_BODY_BYTES, what: "an error" };
      text = (await this.#http.readAll(response, options)).toString("utf8");
    } catch {
      return "";
    }
    const message = /"message"\s*:\s*"((?:[^"\\]|\\.){1,200})"/.exec(text)?.[1];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal.
    return message === undefined ? "" : `: ${message.replace(/[\x00-\x1f\x7f-\x9f]/g, " ")}`;
  }
}

function announcedDigest(response: HttpResponse): Digest | undefined {
  const header = response.headers["docker-content-digest"];
  return typeof header === "string" ? parseDigest(header) : undefined;
}

/**
 * Compares what the head of an answer promises with what was asked for; returns how many bytes at the
 * beginning were not asked for.
 */
function checkedSkip(response: HttpResponse, blob: BlobDescriptor, position: number): number {
  const isPart = response.status === 206;
  const start = isPart ? /^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1] : "0";
  const from = Number(start ?? Number.NaN);
  const length = Number(response.headers["content-length"] ?? Number.NaN);
  const isWrongPart = isPart && from !== position;
  const isWrongLength = Number.isFinite(length) && from + length !== blob.size;
  if (!isWrongPart && !isWrongLength) return position - from;
  response.body.destroy();
  const got = isWrongPart ? `a part from ${start ?? "nowhere"}` : `${from + length} bytes`;
  throw new FirectlError(
    "DIGEST_MISMATCH",
    `blob ${blob.digest} was announced with ${blob.size} bytes; asked for those from ${position}, ${response.url.host} offers ${got}`,
  );
}

function endsEarly(blob: BlobDescriptor, position: number): FirectlError {
  return new FirectlError(
    "DIGEST_MISMATCH",
    `blob ${blob.digest} ends after ${position} of ${blob.size} bytes`,
  );
}
