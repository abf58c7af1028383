import type { Digest } from "../../../core/brands.ts";
import { parseDigest } from "../../../core/brands.ts";
import { FirectlError } from "../../../core/errors.ts";
import { MAX_MANIFEST_BYTES } from "../../manifest.ts";
import { ACCEPTED_MANIFESTS, isForeignLayer } from "../../media-types.ts";
import { type BlobDescriptor, sha256 } from "../../store/content-store.ts";
import type { RawManifest } from "../copy-image.ts";
import { type EndpointOptions, RegistryEndpoint } from "./endpoint.ts";
import { discard, type HttpRequest, type HttpResponse } from "./http.ts";
import { pauseBeforeRetry, type RetryOptions, TransientFailure, withRetries } from "./retry.ts";

const ATTEMPTS = 6;
const FIRST_DELAY_MS = 500;
/** So much received since the last failure makes a connection count as working. */
const PROGRESS_BYTES = 64 * 1024;

export interface RegistryClientOptions extends Omit<EndpointOptions, "scope"> {
  /** `library/debian`. */
  readonly path: string;
  readonly onRetry: (reason: string, delayMs: number) => void;
  /** How often a request is sent before it counts as failed. */
  readonly attempts?: number | undefined;
  readonly firstDelayMs?: number | undefined;
}

/** A blob as a manifest describes it; without a media type it is an ordinary one. */
export interface WantedBlob extends BlobDescriptor {
  readonly mediaType?: string | undefined;
}

/**
 * One repository of a registry, read through the Distribution API v2.
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md
 */
export class RegistryClient implements Disposable {
  readonly #options: RegistryClientOptions;
  readonly #endpoint: RegistryEndpoint;

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#endpoint = new RegistryEndpoint({ ...options, scope: `repository:${options.path}:pull` });
  }

  [Symbol.dispose](): void {
    this.#endpoint[Symbol.dispose]();
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
      discard(response);
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
      const bytes = await this.#endpoint.http.readAll(response, {
        maxBytes: MAX_MANIFEST_BYTES,
        what,
        signal,
      });
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
    blob: WantedBlob,
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
      attempts: this.#options.attempts ?? ATTEMPTS,
      firstDelayMs: this.#options.firstDelayMs ?? FIRST_DELAY_MS,
      onRetry: this.#options.onRetry,
      signal,
    };
  }

  async *#blobFrom(
    blob: WantedBlob,
    position: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const request = {
      method: "GET",
      headers: position === 0 ? {} : { range: `bytes=${position}-${blob.size - 1}` },
      signal,
    } as const;
    const response = await this.#send(`blobs/${blob.digest}`, request).catch((error: unknown) => {
      throw isForeignLayer(blob.mediaType ?? "") && isNotFound(error)
        ? foreignLayer(blob, this.#name)
        : error;
    });
    let skip = checkedSkip(response, blob, position);
    for await (const chunk of this.#endpoint.http.chunks(response, signal)) {
      const rest = chunk.subarray(Math.min(skip, chunk.byteLength));
      skip -= chunk.byteLength - rest.byteLength;
      if (rest.byteLength > 0) yield rest;
    }
  }

  #send(resource: string, request: HttpRequest): Promise<HttpResponse> {
    return this.#endpoint.send(`${this.#options.path}/${resource}`, `${this.#name}/${resource}`, request);
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof FirectlError && error.code === "IMAGE_NOT_FOUND";
}

function foreignLayer(blob: WantedBlob, repository: string): FirectlError {
  return new FirectlError(
    "LAYER_INVALID",
    `layer ${blob.digest} (${blob.mediaType}) is not in ${repository}: it is a foreign layer, kept elsewhere, where firectl does not go`,
    { hint: "push the image anew with all its layers; dockerd's allow-nondistributable-artifacts does that" },
  );
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
