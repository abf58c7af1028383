import { fsyncSync, ftruncateSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";
import { ioError } from "../host/files.ts";
import { encodeTemplate, type WrittenRun } from "./disk-template.ts";
import { BlockFile } from "./ext4/block-file.ts";
import { BLOCK_SIZE, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK } from "./ext4/format.ts";
import { newDirectory } from "./ext4/inodes.ts";
import { journalBlocksFor, MIN_JOURNAL_BLOCKS } from "./ext4/journal-size.ts";
import { numberTree, planLayout } from "./ext4/layout.ts";
import { FileTree } from "./ext4/tree.ts";
import { parseUuid, uuidWords } from "./ext4/uuid.ts";
import { writeFilesystem } from "./ext4/writer.ts";
import { writeNewFile } from "./new-file.ts";

/** Smallest disk that is worth a journal: twice the smallest one, in bytes. */
export const MIN_DISK_BYTES: number = 2 * MIN_JOURNAL_BLOCKS * BLOCK_SIZE;
const MAX_DISK_BYTES = 2 ** 32 * BLOCK_SIZE - BLOCK_SIZE;

export interface WritableDiskOptions {
  /** The file to create; it must not exist. */
  readonly path: string;
  readonly sizeBytes: number;
  /** The filesystem's UUID. */
  readonly uuid: string;
  /** Directories in the root, owned by root. */
  readonly directories: ReadonlyArray<{ readonly name: string; readonly mode: number }>;
  /** Volume name, at most 16 bytes of ASCII. */
  readonly label?: string | undefined;
  /** The directories' times, in seconds; the present unless given. */
  readonly timeSec?: number | undefined;
  /**
   * Whether to wait until it is on the disk; false unless asked for: a VM that a power cut of the host ends
   * before its first boot is lost anyhow.
   */
  readonly sync?: boolean | undefined;
  /** Gets what others like it can be made from, see {@link encodeTemplate}. */
  readonly onTemplate?: ((template: Buffer) => void) | undefined;
}

/**
 * Creates an empty ext4 disk with a journal. The file is sparse: bitmaps and inode tables of untouched groups are
 * marked as never used, the journal is a hole but for its first block.
 * @throws FirectlError INVALID_ARGUMENT (size, uuid, label), NO_SPACE, IO_FAILED.
 */
export async function createWritableDisk(options: WritableDiskOptions): Promise<void> {
  const uuid = parseUuid(options.uuid);
  const label = options.label ?? "";
  if (!/^[\x20-\x7e]{0,16}$/.test(label)) {
    throw new FirectlError("INVALID_ARGUMENT", `the label "${label}" is not at most 16 bytes of ASCII`);
  }
  if (!(options.sizeBytes >= MIN_DISK_BYTES && options.sizeBytes <= MAX_DISK_BYTES)) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `a disk of ${options.sizeBytes} bytes: from ${MIN_DISK_BYTES} to ${MAX_DISK_BYTES} are possible`,
    );
  }
  await writeNewFile(options.path, (fd) => {
    try {
      writeDisk(fd, { ...options, label }, uuid);
    } catch (error) {
      throw ioError(`cannot write ${options.path}`, error);
    }
  });
}

function writeDisk(
  fd: number,
  options: WritableDiskOptions & { readonly label: string },
  uuid: Buffer,
): void {
  const sizeBlocks = Math.floor(options.sizeBytes / BLOCK_SIZE);
  const reservedBlocks = Math.ceil(Math.ceil(sizeBlocks / BLOCKS_PER_GROUP) / DESCRIPTORS_PER_BLOCK);
  const now = Date.now();
  const times =
    options.timeSec === undefined
      ? { timeSec: Math.floor(now / 1000), timeNsec: (now % 1000) * 1_000_000 }
      : { timeSec: options.timeSec };
  const tree = new FileTree();
  const root = tree.addRoot(tree.inodes.add(newDirectory(0o755, times)));
  for (const { name, mode } of options.directories) {
    tree.addDirectory(root, name, newDirectory(mode, times));
  }
  const layout = planLayout(numberTree(tree, root), {
    reservedBlocks,
    dataEnd: 1 + reservedBlocks,
    freed: [],
    sizeBlocks,
    journalBlocks: journalBlocksFor(sizeBlocks),
    hashSeed: uuidWords(uuid),
  });
  const runs: WrittenRun[] = [];
  const file = new BlockFile(fd, options.path, {
    onWritten: (position, length) => runs.push({ position, length }),
  });
  writeFilesystem(file, layout, { uuid, label: options.label, readOnly: false });
  ftruncateSync(fd, options.sizeBytes);
  options.onTemplate?.(encodeTemplate(fd, options.sizeBytes, runs));
  if (options.sync === true) fsyncSync(fd);
}
