import { FirectlError } from "../../../core/errors.ts";
import { type ImageReference, normalisedReference } from "../../reference.ts";
import { type BlobOrigin, copyImage } from "../copy-image.ts";
import type { ImageSource, SourceContext, SourcedImage } from "../source.ts";
import { RegistryClient, type RegistryClientOptions } from "./client.ts";
import { findCredentials } from "./credentials.ts";
import { readDockerDaemonSettings } from "./docker-daemon.ts";
import { type MirrorSettings, mirrorsOf } from "./mirrors.ts";
import { readNetwork } from "./network.ts";
import { type Place, Repository } from "./repository.ts";

/** A mirror is there to save time: it gets less of it than the registry. */
const MIRROR_ATTEMPTS = 2;
const MIRROR_HEAD_TIMEOUT_MS = 10_000;

/** What a user's configuration says of registries. */
export interface RegistrySettings {
  /** Registries that need no verified HTTPS, `host[:port]` or a network of addresses. */
  readonly insecureRegistries?: readonly string[] | undefined;
  /** URLs by the registry that they mirror. */
  readonly registryMirrors?: MirrorSettings | undefined;
  /** Hosts of other sites that may see a registry's login, by registry. */
  readonly registryTokenServers?: Readonly<Record<string, readonly string[]>> | undefined;
}

export interface RegistrySourceOptions extends RegistrySettings {
  readonly firstRetryDelayMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
  /** Where the machine's configuration is, `/etc`. */
  readonly etcDirectory?: string | undefined;
}

/** Images of registries. */
export class RegistrySource implements ImageSource {
  readonly reference: string;
  readonly #parsed: ImageReference;
  readonly #options: RegistrySourceOptions;

  constructor(reference: ImageReference, options: RegistrySourceOptions) {
    this.reference = normalisedReference(reference);
    this.#parsed = reference;
    this.#options = options;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const { tag, digest } = this.#parsed;
    using repository = await this.#open(context);
    const name = digest ?? tag ?? "latest";
    const { known } = context;
    // A HEAD does not count against Docker Hub's rate limit, a GET does.
    if (known !== undefined && (await repository.headManifest(name, context.signal)) === known.entry.origin) {
      return known;
    }
    const origin: BlobOrigin = {
      root: (signal) => repository.getManifest(name, signal),
      manifest: (descriptor, signal) => repository.getManifest(descriptor.digest, signal),
      blob: (blob, options) => repository.getBlob(blob, options),
    };
    try {
      return await copyImage(origin, this.reference, context);
    } catch (error) {
      context.signal?.throwIfAborted();
      if (!isWrongContent(error) || !repository.distrustMirrors(error)) throw error;
    }
    // What is in the store by now has been verified and stays.
    return copyImage(origin, this.reference, context);
  }

  async #open(context: SourceContext): Promise<Repository> {
    const { env } = context;
    const { domain, path } = this.#parsed;
    const { etcDirectory = "/etc", insecureRegistries = [], registryMirrors = {} } = this.#options;
    const docker = await readDockerDaemonSettings({ env, etcDirectory });
    const network = readNetwork({
      env,
      etcDirectory,
      insecureRegistries: [...insecureRegistries, ...docker.insecureRegistries],
    });
    const place = (where: PlaceOptions): Place => ({
      name: where.domain,
      client: new RegistryClient({
        ...where,
        network: network(where.domain),
        tokenServers: this.#options.registryTokenServers?.[where.domain] ?? [],
        findCredentials: () => findCredentials(where, { env, signal: context.signal }),
        onRetry: (reason, delayMs) => context.onProgress({ type: "retrying", reason, delayMs }),
        firstDelayMs: this.#options.firstRetryDelayMs,
        idleTimeoutMs: this.#options.idleTimeoutMs,
      }),
    });
    const impatient = { attempts: MIRROR_ATTEMPTS, headTimeoutMs: MIRROR_HEAD_TIMEOUT_MS };
    const mirrors = mirrorsOf({ domain, path }, { settings: registryMirrors, docker });
    return new Repository({
      registry: place({ domain, path }),
      mirrors: mirrors.map((mirror) => place({ ...mirror, ...impatient })),
      onNotice: (message) => context.onProgress({ type: "notice", message }),
    });
  }
}

type PlaceOptions = Pick<RegistryClientOptions, "domain" | "path"> & Partial<RegistryClientOptions>;

/** Whether what came is not what was asked for, as opposed to nothing having come. */
function isWrongContent(error: unknown): boolean {
  const codes: readonly string[] = ["DIGEST_MISMATCH", "MANIFEST_INVALID", "LAYER_INVALID"];
  return error instanceof FirectlError && codes.includes(error.code);
}
