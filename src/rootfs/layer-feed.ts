import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import { ioError } from "../host/files.ts";
import { PARALLEL_LAYERS } from "../host/processors.ts";
import { TarReader, type TarSink } from "../tar/reader.ts";
import { limitError, type RootfsLimits } from "./limits.ts";
import { ReadAhead } from "./read-ahead.ts";

/** A layer of an image. */
export interface LayerInput {
  /** How errors name it, for example its digest. */
  readonly name: string;
  /**
   * Opens its uncompressed tar; chunks of 64 KiB to 1 MiB cost least, each must stay as it is until the next one
   * is asked for. `signal` ends the iteration. Called before the layer's turn, and again in the rare case that a
   * hard link needs a file which was passed over.
   */
  readonly open: (signal: AbortSignal) => AsyncIterable<Uint8Array>;
}

export interface FeedOptions {
  readonly limits: RootfsLimits;
  /** See {@link BuildRootfsOptions}. */
  readonly onProgress?: ((bytesRead: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads layers into sinks, watching limit, progress and signal. While one is read, those that follow are opened
 * and read ahead, so that several are decompressed at once.
 */
export class LayerFeed implements AsyncDisposable {
  readonly #layers: readonly LayerInput[];
  readonly #options: FeedOptions;
  /** Those that are open. */
  readonly #readers: Map<LayerInput, ReadAhead> = new Map();
  #opened = 0;
  #bytesRead = 0;
  #disposed = false;

  /** @param layers In the order of their turns. */
  constructor(layers: readonly LayerInput[], options: FeedOptions) {
    this.#layers = layers;
    this.#options = options;
  }

  /** Reads `layer` to its end; again, if it has been read before. */
  async read(layer: LayerInput, sink: TarSink): Promise<void> {
    const { signal, onProgress, limits } = this.#options;
    this.#openAhead();
    const tar = new TarReader(layer.name, sink);
    const reader = this.#readers.get(layer) ?? this.#open(layer);
    const end = (): void => void reader[Symbol.asyncDispose]();
    signal?.addEventListener("abort", end, { once: true });
    try {
      for await (const chunk of reader.chunks()) {
        signal?.throwIfAborted();
        this.#bytesRead += chunk.length;
        if (this.#bytesRead > limits.maxBytes) {
          throw limitError({ layer: layer.name }, `more than ${limits.maxBytes} bytes`, "--max-image-size");
        }
        tar.push(asBuffer(chunk));
        onProgress?.(this.#bytesRead);
      }
      signal?.throwIfAborted();
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", end);
      this.#readers.delete(layer);
      await reader[Symbol.asyncDispose]();
    }
    tar.finish();
  }

  #openAhead(): void {
    while (!this.#disposed && this.#readers.size < PARALLEL_LAYERS) {
      const layer = this.#layers[this.#opened++];
      if (layer === undefined) return;
      this.#readers.set(layer, this.#open(layer));
    }
  }

  #open(layer: LayerInput): ReadAhead {
    this.#options.signal?.throwIfAborted();
    return new ReadAhead((signal) => named(layer, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await Promise.all([...this.#readers.values()].map((reader) => reader[Symbol.asyncDispose]()));
  }
}

/** A layer's bytes; what goes wrong with getting them names the layer. */
async function* named(layer: LayerInput, signal: AbortSignal): AsyncIterable<Uint8Array> {
  try {
    yield* layer.open(signal);
  } catch (error) {
    if (error instanceof FirectlError) throw error;
    const act = `layer ${layer.name} cannot be read`;
    // zlib's codes have another form than errno's names.
    if (/^E[A-Z0-9]+$/.test(errnoOf(error) ?? "")) throw ioError(act, error);
    throw new FirectlError("LAYER_INVALID", `${act}: ${messageOf(error)}`, { cause: error });
  }
}

function asBuffer(chunk: Uint8Array): Buffer {
  return Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}
