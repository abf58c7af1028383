import { ftruncateSync } from "node:fs";
import { FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { printableName } from "../../tar/layer-error.ts";
import { type TarEntry, TarReader } from "../../tar/reader.ts";
import { BlockFile } from "../ext4/block-file.ts";
import { BLOCK_SIZE, MAX_LINKS } from "../ext4/format.ts";
import { newDirectory } from "../ext4/inodes.ts";
import { numberTree, planLayout } from "../ext4/layout.ts";
import { FileTree, findPlace, type NumberedTree } from "../ext4/tree.ts";
import { parseUuid, uuidWords } from "../ext4/uuid.ts";
import { writeFilesystem } from "../ext4/writer.ts";
import { FileData } from "../layers/file-data.ts";
import { limitsOf, type RootfsLimits } from "../limits.ts";
import { writeNewFile } from "../new-file.ts";
import { reservedFor } from "../reserved-blocks.ts";
import { SnapshotSink, type SnapshotTarget } from "./snapshot-sink.ts";

/** A directory or file that is to be copied. */
export interface SnapshotInput {
  /** What it is called in the root of the disk. */
  readonly name: string;
  /** Where it comes from, for errors. */
  readonly source: string;
  readonly isDirectory: boolean;
  /** Its tar; a chunk must stay as it is until the next one is asked for. */
  readonly open: () => AsyncIterable<Uint8Array>;
}

export interface BuildSnapshotsOptions {
  /** The file to create; it must not exist. */
  readonly path: string;
  /** The filesystem's UUID. */
  readonly uuid: string;
  readonly snapshots: readonly SnapshotInput[];
  readonly limits?: Partial<RootfsLimits> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Puts copies of directories and files on one read-only ext4 disk, with owners, modes, times, links and attributes
 * as they are. Data goes to the disk as it comes; in memory is some 150 bytes for each file. Nothing stays behind
 * when it fails.
 * @throws FirectlError IO_FAILED naming the file, INVALID_ARGUMENT when it is more than the limits, NO_SPACE, and
 *   what the inputs throw.
 */
export async function buildSnapshots(options: BuildSnapshotsOptions): Promise<void> {
  const uuid = parseUuid(options.uuid);
  await writeNewFile(options.path, (fd) => buildInto(fd, { ...options, uuid }));
}

async function buildInto(
  fd: number,
  options: Omit<BuildSnapshotsOptions, "uuid"> & { readonly uuid: Buffer },
): Promise<void> {
  const { uuid, path, signal } = options;
  const limits = limitsOf(options.limits);
  const reservedBlocks = reservedFor(undefined, limits);
  const file = new BlockFile(fd, path);
  file.seek(1 + reservedBlocks);
  const tree = new FileTree();
  const data = new FileData(file, tree.inodes);
  const rootPlace = tree.addRoot(tree.inodes.add(newDirectory(0o755)));
  const root = tree.directory(rootPlace);
  if (root === undefined) throw new Error("a root is a directory");
  const budget = new Budget(limits);
  for (const snapshot of options.snapshots) {
    const { source } = snapshot;
    const fail = (entry: string | undefined, problem: string): FirectlError =>
      failure(source, entry, problem);
    const target: SnapshotTarget = { tree, data, root, count: (entry) => budget.count(source, entry) };
    const sink = new SnapshotSink(snapshot, target, fail);
    const reader = new TarReader(source, sink, fail);
    for await (const chunk of snapshot.open()) {
      signal?.throwIfAborted();
      reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    }
    signal?.throwIfAborted();
    reader.finish();
    if (sink.isEmpty) throw fail(undefined, "it has vanished");
  }
  const numbered = numberTree(tree, rootPlace);
  refuseTooManyLinks(numbered);
  const layout = planLayout(numbered, {
    reservedBlocks,
    dataEnd: file.nextBlock,
    freed: [],
    sizeBlocks: undefined,
    journalBlocks: 0,
    hashSeed: uuidWords(uuid),
  });
  writeFilesystem(file, layout, { uuid, label: "", readOnly: true });
  try {
    ftruncateSync(fd, layout.blocks * BLOCK_SIZE);
  } catch (error) {
    throw ioError(`cannot write ${path}`, error);
  }
}

function failure(source: string, entry: string | undefined, problem: string): FirectlError {
  const file = entry === undefined ? source : `${source}, file "${printableName(entry)}"`;
  return new FirectlError("IO_FAILED", `cannot copy ${file}: ${problem}`);
}

function refuseTooManyLinks(numbered: NumberedTree): void {
  const { tree } = numbered;
  const table = tree.inodes;
  const inode = numbered.inodes.find((each) => table.links(each) > MAX_LINKS && !table.isDirectory(each));
  const place = inode === undefined ? undefined : findPlace(numbered, inode);
  if (inode === undefined || place === undefined) return;
  throw failure(
    "the snapshots",
    tree.path(place),
    `${table.links(inode)} hard links to one file, ext4 allows ${MAX_LINKS}`,
  );
}

/** What all snapshots of a VM together may take. */
class Budget {
  readonly #limits: RootfsLimits;
  #entries = 0;
  #bytes = 0;
  #metadataBytes = 0;

  constructor(limits: RootfsLimits) {
    this.#limits = limits;
  }

  count(source: string, entry: TarEntry): void {
    const { maxEntries, maxBytes, maxMetadataBytes } = this.#limits;
    this.#entries += 1 + (entry.sparse?.length ?? 0);
    this.#bytes += entry.sparse?.reduce((sum, { length }) => sum + length, 0) ?? entry.size;
    this.#metadataBytes += entry.path.length + entry.linkPath.length;
    for (const { name, value } of entry.xattrs ?? []) this.#metadataBytes += name.length + value.length;
    const excess =
      this.#entries > maxEntries
        ? `${maxEntries} files and directories`
        : this.#bytes > maxBytes
          ? `${maxBytes} bytes`
          : this.#metadataBytes > maxMetadataBytes
            ? `${maxMetadataBytes} bytes of names and attributes`
            : undefined;
    if (excess === undefined) return;
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `${source} is too large to be copied: it has more than ${excess}`,
      {
        hint: "mount a part of it, or put it into a volume",
      },
    );
  }
}
