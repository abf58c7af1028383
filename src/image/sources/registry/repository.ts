import type { Digest } from "../../../core/brands.ts";
import { FirectlError, messageOf } from "../../../core/errors.ts";
import type { RawManifest } from "../copy-image.ts";
import type { RegistryClient, WantedBlob } from "./client.ts";

/** One place that has a repository. */
export interface Place {
  /** Host and port. */
  readonly name: string;
  readonly client: RegistryClient;
}

/**
 * A repository with its mirrors: what one place does not give is asked of the next, the registry itself last.
 * A mirror that has failed is asked no more.
 */
export class Repository implements Disposable {
  readonly #registry: Place;
  readonly #all: readonly Place[];
  readonly #onNotice: (message: string) => void;
  #mirrors: readonly Place[];
  #hasMirrorServed = false;

  /** Takes over the clients. */
  constructor(options: {
    registry: Place;
    mirrors: readonly Place[];
    onNotice: (message: string) => void;
  }) {
    this.#registry = options.registry;
    this.#mirrors = options.mirrors;
    this.#onNotice = options.onNotice;
    this.#all = [...options.mirrors, options.registry];
  }

  [Symbol.dispose](): void {
    for (const { client } of this.#all) client[Symbol.dispose]();
  }

  /** See {@link RegistryClient.headManifest}. */
  headManifest(tag: string, signal: AbortSignal | undefined): Promise<Digest | undefined> {
    return this.#ask(signal, (client) => client.headManifest(tag, signal));
  }

  /** See {@link RegistryClient.getManifest}. */
  getManifest(tagOrDigest: string, signal: AbortSignal | undefined): Promise<RawManifest> {
    return this.#ask(signal, (client) => client.getManifest(tagOrDigest, signal));
  }

  /** See {@link RegistryClient.getBlob}: what a mirror began, the next place goes on with. */
  async *getBlob(
    blob: WantedBlob,
    options: { offset: number; signal: AbortSignal | undefined },
  ): AsyncGenerator<Uint8Array> {
    let offset = options.offset;
    for (;;) {
      const place = this.#first;
      try {
        for await (const chunk of place.client.getBlob(blob, { ...options, offset })) {
          if (place !== this.#registry) this.#hasMirrorServed = true;
          offset += chunk.byteLength;
          yield chunk;
        }
        return;
      } catch (error) {
        this.#goOnWithout(place, error, options.signal);
      }
    }
  }

  /**
   * Gives up on all mirrors, because of something that came of them.
   * @returns Whether one of them has served anything, so that asking once more may help.
   */
  distrustMirrors(error: unknown): boolean {
    if (!this.#hasMirrorServed) return false;
    this.#hasMirrorServed = false;
    this.#mirrors = [];
    this.#onNotice(
      `what a mirror of ${this.#registry.name} gave is wrong, asking the registry: ${messageOf(error)}`,
    );
    return true;
  }

  get #first(): Place {
    return this.#mirrors[0] ?? this.#registry;
  }

  async #ask<T>(signal: AbortSignal | undefined, ask: (client: RegistryClient) => Promise<T>): Promise<T> {
    for (;;) {
      const place = this.#first;
      try {
        const answer = await ask(place.client);
        if (place !== this.#registry) this.#hasMirrorServed = true;
        return answer;
      } catch (error) {
        this.#goOnWithout(place, error, signal);
      }
    }
  }

  /** @throws `error` when it is the registry's own, not a place's failure, or the caller's abort. */
  #goOnWithout(place: Place, error: unknown, signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (place === this.#registry || !(error instanceof FirectlError)) throw error;
    // Of several transfers that fail together, one tells.
    if (!this.#mirrors.includes(place)) return;
    this.#mirrors = this.#mirrors.filter((other) => other !== place);
    this.#onNotice(`mirror ${place.name} is left out: ${error.message}`);
  }
}
