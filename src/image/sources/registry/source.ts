import { type ImageReference, normalisedReference } from "../../reference.ts";
import { copyImage } from "../copy-image.ts";
import type { ImageSource, SourceContext, SourcedImage } from "../source.ts";
import { RegistryClient } from "./client.ts";
import { insecureRegistries } from "./insecure.ts";

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
    const { domain, path, tag, digest } = this.#parsed;
    using client = new RegistryClient({
      domain,
      path,
      env: context.env,
      isInsecure: insecureRegistries(this.#options.insecureRegistries, context.env),
      onRetry: (reason, delayMs) => context.onProgress({ type: "retrying", reason, delayMs }),
      firstDelayMs: this.#options.firstRetryDelayMs,
      idleTimeoutMs: this.#options.idleTimeoutMs,
    });
    const name = digest ?? tag ?? "latest";
    const { known } = context;
    // A HEAD does not count against Docker Hub's rate limit, a GET does.
    if (known !== undefined && (await client.headManifest(name, context.signal)) === known.entry.origin) {
      return known;
    }
    return copyImage(
      {
        root: (signal) => client.getManifest(name, signal),
        manifest: (descriptor, signal) => client.getManifest(descriptor.digest, signal),
        blob: (blob, options) => client.getBlob(blob, options),
      },
      this.reference,
      context,
    );
  }
}

export interface RegistrySourceOptions {
  readonly insecureRegistries: readonly string[];
  readonly firstRetryDelayMs?: number | undefined;
  readonly idleTimeoutMs?: number | undefined;
}
