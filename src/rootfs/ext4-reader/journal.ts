import { crc32c } from "../../core/crc32c.ts";
import { runsOf } from "./block-map.ts";
import { readInode } from "./inode.ts";
import { JOURNAL_MAGIC, type JournaledBlock, type Volume } from "./volume.ts";

/*
 * What a filesystem that was cut off left in its journal (jbd2): transactions that are whole count, as the kernel
 * would replay them at the next mount, but here only in memory. All integers big-endian.
 * https://www.kernel.org/doc/html/latest/filesystems/ext4/journal.html, fs/jbd2/recovery.c
 */

const BLOCK_DESCRIPTOR = 1;
const BLOCK_COMMIT = 2;
const BLOCK_SUPERBLOCK_V1 = 3;
const BLOCK_SUPERBLOCK_V2 = 4;
const BLOCK_REVOKE = 5;
const HEADER_BYTES = 12;

const INCOMPAT_REVOKE = 0x1;
const INCOMPAT_64BIT = 0x2;
const INCOMPAT_ASYNC_COMMIT = 0x4;
const INCOMPAT_CSUM_V2 = 0x8;
const INCOMPAT_CSUM_V3 = 0x10;
const KNOWN_INCOMPAT =
  INCOMPAT_REVOKE | INCOMPAT_64BIT | INCOMPAT_ASYNC_COMMIT | INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3;
const INCOMPAT_FAST_COMMIT = 0x20;

/** As many as mke2fs makes. */
const MAX_BLOCKS = 10_240_000;

const TAG_ESCAPED = 0x1;
const TAG_SAME_UUID = 0x2;
const TAG_LAST = 0x8;
const TAIL_BYTES = 4;

interface Journal {
  readonly volume: Volume;
  /** Where on the disk each of the journal's blocks is. */
  readonly blocks: readonly number[];
  /** The ring: from `first` to before `end`. */
  readonly first: number;
  readonly end: number;
  readonly start: number;
  readonly sequence: number;
  readonly is64Bit: boolean;
  readonly checksums: "none" | "v2" | "v3";
  readonly seed: number;
}

/** A block that a descriptor names. */
interface Tag {
  readonly target: number;
  readonly escaped: boolean;
  readonly checksum: number;
}

/** A block of the journal's own: what it is, in which transaction, and which blocks follow it. */
interface LogBlock {
  readonly kind: number;
  readonly sequence: number;
  readonly bytes: Buffer;
  readonly tags: readonly Tag[];
  /** Place of the first block after it. */
  readonly next: number;
}

/**
 * Makes the volume read its blocks as a replay of the journal would leave them; does nothing where there is
 * nothing to replay.
 * @throws FirectlError DISK_INVALID for a journal that cannot be understood, UNSUPPORTED for fast commits.
 */
export function replayJournal(volume: Volume): void {
  if (!volume.superblock.needsRecovery) return;
  if (volume.superblock.journalInode === 0) throw volume.invalid("its journal is on another device");
  const journal = openJournal(volume);
  // s_start is 0 when the last transaction has long been written to its place.
  if (journal.start === 0) return;
  const end = scan(journal);
  const revoked = revokedBlocks(journal, end);
  volume.replayed(collect(journal, end, revoked));
}

function openJournal(volume: Volume): Journal {
  const inode = readInode(volume, volume.superblock.journalInode);
  const blocks: number[] = [];
  for (const { logical, physical, count } of runsOf(volume, inode)) {
    if (logical !== blocks.length) throw volume.invalid("its journal has a hole");
    if (blocks.length + count > MAX_BLOCKS) {
      throw volume.invalid(`its journal has ${blocks.length + count} blocks, at most ${MAX_BLOCKS} are read`);
    }
    for (let i = 0; i < count; i++) blocks.push(physical + i);
  }
  const [place] = blocks;
  if (place === undefined) throw volume.invalid("its journal is empty");
  const bytes = volume.block(place);
  const u32 = (at: number) => bytes.readUInt32BE(at);
  const kind = u32(4);
  if (u32(0) !== JOURNAL_MAGIC || (kind !== BLOCK_SUPERBLOCK_V1 && kind !== BLOCK_SUPERBLOCK_V2)) {
    throw volume.invalid("its journal has no superblock");
  }
  const features = kind === BLOCK_SUPERBLOCK_V1 ? 0 : u32(0x28);
  if ((features & INCOMPAT_FAST_COMMIT) !== 0) {
    throw volume.unsupported("its journal has fast commits, which firectl cannot replay");
  }
  if ((features & ~KNOWN_INCOMPAT) !== 0) {
    throw volume.unsupported(`its journal has the features 0x${features.toString(16)}`);
  }
  const [first, end, start] = [u32(0x14), u32(0x10), u32(0x1c)];
  const isSane =
    u32(0xc) === volume.superblock.blockSize && end <= blocks.length && first >= 1 && first < end;
  if (!isSane || (start !== 0 && (start < first || start >= end))) {
    throw volume.invalid(
      `its journal of ${blocks.length} blocks runs from ${first} to ${end}, from ${start}`,
    );
  }
  const checksums =
    (features & INCOMPAT_CSUM_V3) !== 0 ? "v3" : (features & INCOMPAT_CSUM_V2) !== 0 ? "v2" : "none";
  return {
    volume,
    blocks,
    first,
    end,
    start,
    sequence: u32(0x18),
    is64Bit: (features & INCOMPAT_64BIT) !== 0,
    checksums,
    seed: rawCrc(0xffff_ffff, bytes.subarray(0x30, 0x40)),
  };
}

/** The blocks of the log in order, as far as they belong to transactions that follow one another. */
function* logBlocks(journal: Journal): Generator<LogBlock, void> {
  let at = journal.start;
  let { sequence } = journal;
  // The ring can be gone through once: what comes after is older.
  for (let left = journal.end - journal.first; left > 0; ) {
    const bytes = blockAt(journal, at);
    if (bytes.readUInt32BE(0) !== JOURNAL_MAGIC || bytes.readUInt32BE(8) !== sequence) return;
    const kind = bytes.readUInt32BE(4);
    if (kind !== BLOCK_DESCRIPTOR && kind !== BLOCK_COMMIT && kind !== BLOCK_REVOKE) return;
    if (!isWhole(journal, kind, bytes)) return;
    const tags = kind === BLOCK_DESCRIPTOR ? tagsOf(journal, bytes) : [];
    yield { kind, sequence, bytes, tags, next: advance(journal, at, 1) };
    at = advance(journal, at, 1 + tags.length);
    left -= 1 + tags.length;
    if (kind === BLOCK_COMMIT) sequence = (sequence + 1) >>> 0;
  }
}

/** The sequence number after that of the last transaction with a commit. */
function scan(journal: Journal): number {
  let end = journal.sequence;
  for (const { kind, sequence } of logBlocks(journal)) {
    if (kind === BLOCK_COMMIT) end = (sequence + 1) >>> 0;
  }
  return end;
}

/** Blocks that were freed: copies from that transaction and before must not be brought back. */
function revokedBlocks(journal: Journal, end: number): Map<number, number> {
  const revoked = new Map<number, number>();
  const width = journal.is64Bit ? 8 : 4;
  for (const { kind, sequence, bytes } of logBlocks(journal)) {
    if (sequence === end) break;
    if (kind !== BLOCK_REVOKE) continue;
    const used = bytes.readUInt32BE(HEADER_BYTES);
    const tail = journal.checksums === "none" ? 0 : TAIL_BYTES;
    if (used > bytes.length - tail)
      throw journal.volume.invalid(`its journal revokes ${used} bytes of blocks`);
    for (let at = HEADER_BYTES + 4; at + width <= used; at += width) {
      const block = journal.is64Bit
        ? bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
        : bytes.readUInt32BE(at);
      // Transactions come in order: the last to revoke it is the one that counts.
      revoked.set(block, sequence);
    }
  }
  return revoked;
}

/** The newest copy of each block. */
function collect(
  journal: Journal,
  end: number,
  revoked: ReadonlyMap<number, number>,
): Map<number, JournaledBlock> {
  const { volume } = journal;
  const copies = new Map<number, JournaledBlock>();
  for (const { kind, sequence, tags, next } of logBlocks(journal)) {
    if (sequence === end) break;
    if (kind !== BLOCK_DESCRIPTOR) continue;
    for (const [index, { target, escaped, checksum }] of tags.entries()) {
      const revokedBy = revoked.get(target);
      // Sequence numbers wrap around.
      if (revokedBy !== undefined && ((revokedBy - sequence) | 0) >= 0) continue;
      if (!volume.hasBlocks(target, 1)) throw volume.invalid(`its journal has a copy of block ${target}`);
      const place = advance(journal, next, index);
      if (!isIntact(journal, sequence, blockAt(journal, place), checksum)) {
        throw volume.invalid(`its journal's copy of block ${target} has a wrong checksum`);
      }
      copies.set(target, { at: journal.blocks[place] ?? 0, escaped });
    }
  }
  return copies;
}

/** The blocks that a descriptor says follow it. */
function tagsOf(journal: Journal, bytes: Buffer): Tag[] {
  const { checksums, is64Bit } = journal;
  const tags: Tag[] = [];
  const end = bytes.length - (checksums === "none" ? 0 : TAIL_BYTES);
  // journal_tag_bytes(): version 2 of the checksums made the tags two bytes longer than it uses.
  const size = checksums === "v3" ? 16 : 8 + (is64Bit ? 4 : 0) + (checksums === "v2" ? 2 : 0);
  for (let at = HEADER_BYTES; at + size <= end; ) {
    const flags = checksums === "v3" ? bytes.readUInt32BE(at + 4) : bytes.readUInt16BE(at + 6);
    const high = is64Bit ? bytes.readUInt32BE(at + 8) : 0;
    tags.push({
      target: bytes.readUInt32BE(at) + high * 2 ** 32,
      escaped: (flags & TAG_ESCAPED) !== 0,
      checksum: checksums === "v3" ? bytes.readUInt32BE(at + 12) : bytes.readUInt16BE(at + 4),
    });
    at += size + ((flags & TAG_SAME_UUID) === 0 ? 16 : 0);
    if ((flags & TAG_LAST) !== 0) break;
  }
  return tags;
}

/** Whether a block of the log has been written in full, as far as checksums tell. */
function isWhole(journal: Journal, kind: number, bytes: Buffer): boolean {
  if (journal.checksums === "none") return true;
  // In a commit block the checksum is h_chksum[0], else it is at the end; it counts as zero.
  const at = kind === BLOCK_COMMIT ? 0x10 : bytes.length - TAIL_BYTES;
  const copy = Buffer.from(bytes);
  copy.writeUInt32BE(0, at);
  return rawCrc(journal.seed, copy) === bytes.readUInt32BE(at);
}

/** Whether a copy of a block is what its tag says. */
function isIntact(journal: Journal, sequence: number, bytes: Buffer, checksum: number): boolean {
  if (journal.checksums === "none") return true;
  const number = Buffer.alloc(4);
  number.writeUInt32BE(sequence);
  const sum = rawCrc(rawCrc(journal.seed, number), bytes);
  return (journal.checksums === "v3" ? sum : sum & 0xffff) === checksum;
}

/** The kernel's crc32c(), which inverts neither at the start nor at the end. */
function rawCrc(seed: number, bytes: Uint8Array): number {
  return ~crc32c(bytes, ~seed >>> 0) >>> 0;
}

function advance(journal: Journal, at: number, count: number): number {
  const { first, end } = journal;
  return first + ((at - first + count) % (end - first));
}

function blockAt(journal: Journal, at: number): Buffer {
  return journal.volume.block(journal.blocks[at] ?? 0);
}
