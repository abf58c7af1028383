import { constants } from "node:fs";
import { copyFile, open, rm } from "node:fs/promises";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { ioError } from "../host/files.ts";
import { runProgram } from "../host/process.ts";

/** Read and write unit of the copy without cp. */
const CHUNK_BYTES = 256 * 1024;
const PAGE_BYTES = 4096;

/**
 * Copies a disk to a new file: shared blocks where the host's filesystem can (reflink), else a copy that keeps
 * holes. Nothing stays behind when it fails.
 * @throws FirectlError NO_SPACE, PERMISSION_DENIED, IO_FAILED, also when `to` exists.
 */
export async function cloneFile(from: string, to: string, signal?: AbortSignal): Promise<void> {
  await reserve(from, to);
  try {
    if (await reflink(from, to)) return;
    signal?.throwIfAborted();
    if (await copyWithCp(from, to, signal)) return;
    await copySparse(from, to, signal);
  } catch (error) {
    await rm(to, { force: true });
    signal?.throwIfAborted();
    throw ioError(`cannot copy ${from} to ${to}`, error);
  }
}

/** Takes the name, so that only a file of ours is ever overwritten or removed. */
async function reserve(from: string, to: string): Promise<void> {
  try {
    await (await open(to, "wx", 0o600)).close();
  } catch (error) {
    throw ioError(`cannot copy ${from} to ${to}`, error);
  }
}

async function reflink(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    // What filesystems that cannot share blocks answer; anything else will come up again in the copy.
    if (errno === "ENOENT" || errno === "ENOSPC") throw error;
    return false;
  }
}

/** cp finds holes with lseek(SEEK_HOLE), which Node does not offer. */
async function copyWithCp(from: string, to: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await runProgram("cp", ["--sparse=always", "--", from, to], { signal });
    return true;
  } catch (error) {
    // A cp without that option (BusyBox), or none at all: the copy below says what is really wrong.
    if (error instanceof FirectlError) return false;
    throw error;
  }
}

/** Copies what is not zero, page by page. */
export async function copySparse(from: string, to: string, signal?: AbortSignal): Promise<void> {
  const source = await open(from, "r");
  try {
    const target = await open(to, "w");
    try {
      const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
      let position = 0;
      for (;;) {
        signal?.throwIfAborted();
        const { bytesRead } = await source.read(buffer, 0, CHUNK_BYTES, position);
        if (bytesRead === 0) break;
        for (const [start, end] of dataRanges(buffer.subarray(0, bytesRead))) {
          await writeFully(target, buffer.subarray(start, end), position + start);
        }
        position += bytesRead;
      }
      await target.truncate(position);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** The ranges of pages that hold something, neighbours joined. */
function dataRanges(bytes: Buffer): Array<[start: number, end: number]> {
  const ranges: Array<[number, number]> = [];
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const end = Math.min(bytes.length, at + PAGE_BYTES);
    if (ZERO_PAGE.compare(bytes, at, end, 0, end - at) === 0) continue;
    const last = ranges.at(-1);
    if (last?.[1] === at) last[1] = end;
    else ranges.push([at, end]);
  }
  return ranges;
}

async function writeFully(
  target: Awaited<ReturnType<typeof open>>,
  bytes: Buffer,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await target.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

const ZERO_PAGE: Buffer = Buffer.alloc(PAGE_BYTES);
