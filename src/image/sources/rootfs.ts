import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { FirectlError } from "../../core/errors.ts";
import { BLOCK, isZeroBlock, parseHeader } from "../../tar/header.ts";
import { abortable } from "../archive/abortable.ts";
import { expand, sniff } from "../archive/expand.ts";
import { openFile, streamOf } from "../archive/open-archive.ts";
import { packDirectory } from "../archive/pack-directory.ts";
import { everyMebibyte } from "../progress.ts";
import { makeSingleLayerImage, type SingleLayerOptions } from "../single-layer.ts";
import { type BlobDescriptor, digestOf } from "../store/content-store.ts";
import { ingestStream } from "../store/ingest.ts";
import type { ImageSource, SourceContext, SourcedImage } from "./source.ts";

/** A root filesystem: a directory, a tar, or `-` with the tar that comes. */
export interface RootfsInput {
  readonly path: string;
  /** What `-` stands for; the process's own standard input when absent. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
}

/** What the image is to say about running it; nothing, when absent, as `docker import` does. */
export type RootfsConfig = Partial<Pick<SingleLayerOptions, "config" | "created" | "comment">>;

/**
 * A root filesystem without an image: it becomes the only layer of one. It is read each time, since it may have
 * changed; the same content gives the same digests.
 */
export class RootfsSource implements ImageSource {
  readonly reference: string;
  readonly #input: RootfsInput;
  readonly #config: RootfsConfig;

  constructor(reference: string, input: RootfsInput, config: RootfsConfig = {}) {
    this.reference = reference;
    this.#input = input;
    this.#config = config;
  }

  async bring(context: SourceContext): Promise<SourcedImage> {
    const { reference } = this;
    const layer = await this.#layer(context);
    return makeSingleLayerImage(context.store, {
      config: {},
      ...this.#config,
      layer,
      reference,
      platform: context.platform,
    });
  }

  async #layer(context: SourceContext): Promise<BlobDescriptor> {
    const { path } = this.#input;
    if (path === "-")
      return ingest(this.#stdin(context.signal), {
        label: "standard input",
        reference: this.reference,
        context,
      });
    if (await isDirectory(path)) {
      const { env, signal, onProgress } = context;
      const onNotice = (message: string): void => onProgress({ type: "notice", message });
      const { store } = context;
      const packed = packDirectory(path, { env, signal, exclude: store.root, onNotice });
      return ingestStream(store, counted(packed, { reference: this.reference, context }));
    }
    const handle = await openFile(path);
    try {
      const isFile = (await handle.stat()).isFile();
      const options = { label: path, reference: this.reference, context };
      if (isFile && context.known !== undefined) {
        const same = await unchanged(streamOf(handle, { signal: context.signal, start: 0 }), options);
        if (same !== undefined) return same;
        return await ingest(streamOf(handle, { signal: context.signal, start: 0 }), options);
      }
      return await ingest(streamOf(handle, { signal: context.signal }), options);
    } finally {
      await handle.close();
    }
  }

  #stdin(signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const { stdin } = this.#input;
    if (stdin !== undefined) return abortable(stdin, signal);
    if (process.stdin.isTTY) {
      throw new FirectlError(
        "INVALID_ARGUMENT",
        "rootfs:- reads a tar from standard input, which is a terminal",
        {
          hint: "firectl run rootfs:- < rootfs.tar",
        },
      );
    }
    return letGo(abortable(process.stdin, signal));
  }
}

/** Standard input that stays open would keep the process alive. */
async function* letGo(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } finally {
    process.stdin.destroy();
  }
}

interface ReadOptions {
  readonly label: string;
  readonly reference: string;
  readonly context: SourceContext;
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    // Opening it says what is wrong.
    return false;
  }
}

/** The layer of the known image when that is still what is read; nothing is written to find out. */
async function unchanged(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<BlobDescriptor | undefined> {
  const [layer] = options.context.known?.image.layers ?? [];
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of tarIn(chunks, options)) {
    hash.update(chunk);
    size += chunk.byteLength;
  }
  const digest = digestOf(hash.digest("hex"));
  return layer?.digest === digest ? { digest, size } : undefined;
}

function ingest(chunks: AsyncIterable<Uint8Array>, options: ReadOptions): Promise<BlobDescriptor> {
  return ingestStream(options.context.store, counted(tarIn(chunks, options), options));
}

/** The uncompressed tar, if it is one. */
async function* tarIn(chunks: AsyncIterable<Uint8Array>, options: ReadOptions): AsyncGenerator<Uint8Array> {
  const { label, context } = options;
  const { env, signal } = context;
  const sniffed = await sniff(chunks);
  let head: Uint8Array | undefined = new Uint8Array(0);
  for await (const chunk of expand(sniffed.chunks, {
    compression: sniffed.compression,
    label,
    env,
    signal,
  })) {
    if (head !== undefined) {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
      if (head.length < BLOCK) continue;
      checkTar(head, label);
      yield head;
      head = undefined;
    } else {
      yield chunk;
    }
  }
  if (head !== undefined) throw notATar(label, `it has only ${head.length} bytes`);
}

/** Told here, with the file's name, rather than when the layer is unpacked. */
function checkTar(head: Uint8Array, label: string): void {
  const block = Buffer.from(head.subarray(0, BLOCK));
  if (isZeroBlock(block, 0)) return;
  try {
    parseHeader(block, 0);
  } catch {
    throw notATar(label, "it does not begin with a tar header");
  }
}

function notATar(label: string, why: string): FirectlError {
  return new FirectlError("ARCHIVE_INVALID", `${label} is not a tar archive: ${why}`, {
    hint: "a root filesystem is a directory or a tar, plain or compressed by gzip, zstd, xz or bzip2",
  });
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  options: Pick<ReadOptions, "reference" | "context">,
): AsyncGenerator<Uint8Array> {
  const { reference, context } = options;
  let received = 0;
  const report = everyMebibyte(() => context.onProgress({ type: "reading", reference, received }));
  for await (const chunk of chunks) {
    received += chunk.byteLength;
    report(received);
    yield chunk;
  }
}
