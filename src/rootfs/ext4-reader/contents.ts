import type { SparseSegment } from "../../tar/pax.ts";
import { type OnBlocks, type Run, runsOf } from "./block-map.ts";
import { type DiskInode, FLAG_ENCRYPTED, FLAG_INLINE_DATA } from "./inode.ts";
import { readMapped, refuseLonger } from "./mapped.ts";
import type { Volume } from "./volume.ts";
import { inlineTail } from "./xattrs.ts";

/** What a file holds and where, holes left out. */
export interface FileMap {
  readonly size: number;
  /** In the same order as `segments`, unless the data stands in the inode. */
  readonly runs: readonly Run[];
  /** The stretches that hold data, in bytes; one that spans the file when it has no holes. */
  readonly segments: readonly SparseSegment[];
  readonly inline: Buffer | undefined;
}

/** Most runs of one file: a file so torn takes 16 MB of memory here, and a sparse map in tar holds no more. */
const MAX_RUNS: number = (1 << 20) - 1;
/** Unit in which file data is read. */
const CHUNK_BYTES = 1 << 20;

/**
 * Finds where a file's data lies.
 * @param onBlocks As of `runsOf`.
 * @throws FirectlError DISK_INVALID, UNSUPPORTED (encrypted).
 */
export function mapFile(volume: Volume, inode: DiskInode, onBlocks?: OnBlocks): FileMap {
  const inline = inlineData(volume, inode);
  if (inline !== undefined) {
    const segments = inode.size === 0 ? [] : [{ offset: 0, length: inode.size }];
    return { size: inode.size, runs: [], segments, inline };
  }
  const { blockSize } = volume.superblock;
  const total = Math.ceil(inode.size / blockSize);
  const runs: Run[] = [];
  const segments: Array<{ offset: number; length: number }> = [];
  for (const run of runsOf(volume, inode, onBlocks)) {
    // A crash while the file was growing or shrinking leaves blocks beyond its end.
    if (run.logical >= total) break;
    const count = Math.min(run.count, total - run.logical);
    runs.push({ ...run, count });
    if (runs.length > MAX_RUNS) {
      throw volume.invalid(`inode ${inode.number}: its data is in more than ${MAX_RUNS} pieces`);
    }
    const offset = run.logical * blockSize;
    const length = Math.min(count * blockSize, inode.size - offset);
    const last = segments.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else segments.push({ offset, length });
  }
  return { size: inode.size, runs, segments, inline: undefined };
}

/** The data of a file's segments, one after the other. */
export function* readFile(volume: Volume, map: FileMap): Generator<Buffer, void> {
  if (map.inline !== undefined) {
    if (map.inline.length > 0) yield map.inline;
    return;
  }
  const { blockSize } = volume.superblock;
  const perChunk = CHUNK_BYTES / blockSize;
  for (const { logical, physical, count } of map.runs) {
    for (let done = 0; done < count; done += perChunk) {
      const blocks = Math.min(perChunk, count - done);
      const target = Buffer.allocUnsafe(blocks * blockSize);
      volume.readBlocks(physical + done, target);
      yield target.subarray(0, Math.min(target.length, map.size - (logical + done) * blockSize));
    }
  }
}

/**
 * All of a small file, wherever it stands.
 * @throws FirectlError DISK_INVALID when it is longer than `limit` bytes.
 */
export function readWhole(volume: Volume, inode: DiskInode, limit: number): Buffer {
  refuseLonger(volume, inode, limit);
  return inlineData(volume, inode) ?? readMapped(volume, inode, limit);
}

/** The data that stands in the inode: 60 bytes in i_block, the rest in an attribute. Undefined for other files. */
export function inlineData(volume: Volume, inode: DiskInode): Buffer | undefined {
  if ((inode.flags & FLAG_ENCRYPTED) !== 0) {
    throw volume.unsupported(`inode ${inode.number}: it is encrypted`);
  }
  if ((inode.flags & FLAG_INLINE_DATA) === 0) return undefined;
  const data = Buffer.concat([inode.iBlock, inlineTail(volume, inode)]);
  if (inode.size > data.length) {
    throw volume.invalid(`inode ${inode.number}: ${inode.size} bytes of data, ${data.length} are there`);
  }
  return data.subarray(0, inode.size);
}
