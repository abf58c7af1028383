import { closeSync, ftruncateSync, openSync, rmSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";
import { ioError } from "../host/files.ts";
import { layerError } from "../tar/layer-error.ts";
import type { TarEntry, TarSink } from "../tar/reader.ts";
import { BlockFile } from "./ext4/block-file.ts";
import { BLOCK_SIZE, MAX_LINKS } from "./ext4/format.ts";
import { DiskTooSmallError } from "./ext4/groups.ts";
import type { InodeId } from "./ext4/inodes.ts";
import { journalBlocksFor } from "./ext4/journal-size.ts";
import { type Layout, numberTree, planLayout } from "./ext4/layout.ts";
import { FileTree, findPlace, type NumberedTree } from "./ext4/tree.ts";
import { parseUuid, uuidWords } from "./ext4/uuid.ts";
import { writeFilesystem } from "./ext4/writer.ts";
import { LayerFeed, type LayerInput } from "./layer-feed.ts";
import { FileData } from "./layers/file-data.ts";
import { Flattener } from "./layers/flatten.ts";

import { limitsOf, type RootfsLimits } from "./limits.ts";
import { reservedFor } from "./reserved-blocks.ts";

export type { LayerInput } from "./layer-feed.ts";

export interface BuildRootfsOptions {
  /** Bottom first, as in a manifest. */
  readonly layers: readonly LayerInput[];
  /** The file to create; it must not exist. */
  readonly path: string;
  /** The filesystem's UUID: same layers and options give the same bytes. */
  readonly uuid: string;
  /** For a disk that the guest writes to: a journal, and free space up to this size. */
  readonly writable?: { readonly sizeBytes: number } | undefined;
  readonly limits?: Partial<RootfsLimits> | undefined;
  /** Called after each chunk with the uncompressed bytes read so far. */
  readonly onProgress?: ((bytesRead: number) => void) | undefined;
  /** Whether to wait until the file is on the disk; true unless said otherwise. */
  readonly sync?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface BuiltRootfs {
  /** Size of the image file. */
  readonly sizeBytes: number;
  /** What of the layers could not be kept, in words. */
  readonly notice: string | undefined;
  /** Inodes in use, the ten reserved ones not counted. */
  readonly inodeCount: number;
  /** Bytes of file data written. */
  readonly dataBytes: number;
}

/**
 * Merges layers into an ext4 image: no mount, no root, and owners, modes, times, links, devices and attributes
 * exactly as the layers say. Nothing stays behind when it fails.
 * @throws FirectlError LAYER_INVALID naming layer and entry, NO_SPACE, INVALID_ARGUMENT (uuid, size).
 */
export async function buildRootfs(options: BuildRootfsOptions): Promise<BuiltRootfs> {
  const uuid = parseUuid(options.uuid);
  const fd = createExclusive(options.path);
  const file = new BlockFile(fd, options.path, { syncsEarly: options.sync !== false });
  let done = false;
  try {
    const built = await buildInto({ fd, file, uuid }, options);
    if (options.sync !== false) await file.sync();
    done = true;
    return built;
  } finally {
    await file.settle();
    closeSync(fd);
    if (!done) rmSync(options.path, { force: true });
  }
}

function createExclusive(path: string): number {
  try {
    return openSync(path, "wx+", 0o600);
  } catch (error) {
    throw ioError(`cannot create ${path}`, error);
  }
}

async function buildInto(
  target: { fd: number; file: BlockFile; uuid: Buffer },
  options: BuildRootfsOptions,
): Promise<BuiltRootfs> {
  const { fd, file, uuid } = target;
  const limits = limitsOf(options.limits);
  const sizeBlocks =
    options.writable === undefined ? undefined : Math.floor(options.writable.sizeBytes / BLOCK_SIZE);
  const reservedBlocks = reservedFor(sizeBlocks, limits);
  file.seek(1 + reservedBlocks);
  const fileTree = new FileTree();
  const data = new FileData(file, fileTree.inodes);
  const flattener = new Flattener(fileTree, data, limits);
  // The topmost layer first: what it hides of the lower ones need not be written.
  const topmostFirst = options.layers.toReversed();
  await using feed = new LayerFeed(topmostFirst, { ...options, limits });
  for (const layer of topmostFirst) {
    const sink = flattener.layer(layer.name);
    await feed.read(layer, sink);
    const needed = sink.finish();
    if (needed.size > 0) {
      await feed.read(layer, new RescueSink(needed, data));
      for (const inode of needed.values()) flattener.rescued(inode);
    }
  }
  const tree = numberTree(fileTree, flattener.finish());
  refuseTooManyLinks(tree, flattener);
  const layout = orTooSmall(options, () =>
    planLayout(tree, {
      reservedBlocks,
      dataEnd: file.nextBlock,
      freed: flattener.unusedRuns(),
      sizeBlocks,
      journalBlocks: sizeBlocks === undefined ? 0 : journalBlocksFor(sizeBlocks),
      hashSeed: uuidWords(uuid),
    }),
  );
  writeFilesystem(file, layout, { uuid, label: "", readOnly: options.writable === undefined });
  const sizeBytes = finishFile(fd, layout, options);
  const { notice } = flattener;
  return { sizeBytes, inodeCount: tree.inodes.length + 1, dataBytes: data.bytes, notice };
}

function orTooSmall(options: BuildRootfsOptions, plan: () => Layout): Layout {
  try {
    return plan();
  } catch (error) {
    if (!(error instanceof DiskTooSmallError)) throw error;
    const size = options.writable?.sizeBytes;
    throw new FirectlError(
      "INVALID_ARGUMENT",
      size === undefined
        ? `the image is too large for a filesystem: ${error.needed * BLOCK_SIZE} bytes`
        : `a disk of ${size} bytes is too small for the image, which takes ${error.needed * BLOCK_SIZE}`,
      { hint: "ask for a larger disk with --disk-size", cause: error },
    );
  }
}

function refuseTooManyLinks(numbered: NumberedTree, flattener: Flattener): void {
  const { tree } = numbered;
  const inode = numbered.inodes.find(
    (each) => tree.inodes.links(each) > MAX_LINKS && !tree.inodes.isDirectory(each),
  );
  const place = inode === undefined ? undefined : findPlace(numbered, inode);
  if (inode === undefined || place === undefined) return;
  const problem = `${tree.inodes.links(inode)} hard links to one file, ext4 allows ${MAX_LINKS}`;
  throw layerError(flattener.layerName(place), tree.path(place), problem);
}

function finishFile(fd: number, layout: Layout, options: BuildRootfsOptions): number {
  const sizeBytes = Math.max(layout.blocks * BLOCK_SIZE, options.writable?.sizeBytes ?? 0);
  try {
    ftruncateSync(fd, sizeBytes);
  } catch (error) {
    throw ioError(`cannot write ${options.path}`, error);
  }
  return sizeBytes;
}

/** Takes only the data of the entries, by their place in the layer, that hard links need. */
class RescueSink implements TarSink {
  readonly #needed: ReadonlyMap<number, InodeId>;
  readonly #data: FileData;
  #ordinal = -1;

  constructor(needed: ReadonlyMap<number, InodeId>, data: FileData) {
    this.#needed = needed;
    this.#data = data;
  }

  entry(entry: TarEntry): boolean {
    this.#ordinal++;
    const inode = this.#needed.get(this.#ordinal);
    if (inode === undefined) return false;
    this.#data.begin(inode, entry.sparse);
    return true;
  }

  data(bytes: Buffer): void {
    this.#data.write(bytes);
  }

  end(): void {
    this.#data.end();
  }
}
