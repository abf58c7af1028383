import { type OnBlocks, runsOf } from "./block-map.ts";
import { inlineData } from "./contents.ts";
import type { DiskInode } from "./inode.ts";
import type { Volume } from "./volume.ts";

/*
 * Directories are read from one end to the other: an index (htree) hides in entries that belong to no inode, and
 * so does a checksum. https://www.kernel.org/doc/html/latest/filesystems/ext4/directory.html
 */

export interface DirectoryEntry {
  /** Bytes in a latin1 string. */
  readonly name: string;
  readonly inode: number;
}

const HEADER_BYTES = 8;
/** Bytes of i_block before the entries of a directory that stands in its inode: the parent's number. */
const INLINE_PARENT_BYTES = 4;
const I_BLOCK_BYTES = 60;

/**
 * A directory's entries without `.` and `..`, in the order of the disk.
 * @param onBlocks As of `runsOf`.
 * @throws FirectlError DISK_INVALID naming the directory.
 */
export function* entriesOf(
  volume: Volume,
  directory: DiskInode,
  onBlocks?: OnBlocks,
): Generator<DirectoryEntry, void> {
  const inline = inlineData(volume, directory);
  if (inline !== undefined) {
    yield* entriesIn(volume, directory, inline.subarray(INLINE_PARENT_BYTES, I_BLOCK_BYTES));
    yield* entriesIn(volume, directory, inline.subarray(I_BLOCK_BYTES));
    return;
  }
  const { blockSize } = volume.superblock;
  const blocks = Math.ceil(directory.size / blockSize);
  let next = 0;
  for (const { logical, physical, count } of runsOf(volume, directory, onBlocks)) {
    if (logical >= blocks) break;
    if (logical !== next) break;
    for (let i = 0; i < count && next < blocks; i++, next++) {
      yield* entriesIn(volume, directory, volume.block(physical + i));
    }
  }
  if (next < blocks) {
    throw volume.invalid(`inode ${directory.number}: the directory has a hole at block ${next} of ${blocks}`);
  }
}

function* entriesIn(volume: Volume, directory: DiskInode, bytes: Buffer): Generator<DirectoryEntry, void> {
  const wrong = (problem: string) =>
    volume.invalid(`inode ${directory.number}: an entry of the directory ${problem}`);
  for (let at = 0; at < bytes.length; ) {
    if (at + HEADER_BYTES > bytes.length) throw wrong("is cut short");
    const inode = bytes.readUInt32LE(at);
    const length = entryLength(bytes.readUInt16LE(at + 4), bytes.length);
    const nameLength = bytes[at + 6] ?? 0;
    if (length < HEADER_BYTES || length % 4 !== 0 || at + length > bytes.length) {
      throw wrong(`has ${length} bytes`);
    }
    if (inode !== 0) {
      if (nameLength === 0 || HEADER_BYTES + nameLength > length) {
        throw wrong(`has a name of ${nameLength} bytes in ${length}`);
      }
      const name = bytes.toString("latin1", at + HEADER_BYTES, at + HEADER_BYTES + nameLength);
      if (name.includes("/") || name.includes("\0")) throw wrong("has a slash or a NUL in its name");
      if (name !== "." && name !== "..") yield { name, inode };
    }
    at += length;
  }
}

/** In blocks of 64 KiB the length of an entry that fills the block does not fit into its field. */
function entryLength(field: number, blockBytes: number): number {
  return blockBytes === 65_536 && (field === 0xffff || field === 0) ? blockBytes : field;
}
