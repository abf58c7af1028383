import { ftruncateSync, readSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";
import { BlockFile } from "./ext4/block-file.ts";
import { writeNewFile } from "./new-file.ts";

/** Where something was written, in bytes. */
export interface WrittenRun {
  readonly position: number;
  readonly length: number;
}

/** Changes with what is written into an empty disk, too: a template of another version is none. */
const MAGIC = "firectl disk 1\n\0";
/** After the magic bytes: the disk's size and the number of runs, 8 bytes each, little-endian. */
const HEADER_BYTES = 32;
/** Position and length of a run, 8 bytes each; the runs' bytes follow one another behind the last of them. */
const RUN_BYTES = 16;

/**
 * What was written of the disk open as `fd`, as a template to make others like it from.
 * @throws FirectlError IO_FAILED.
 */
export function encodeTemplate(fd: number, sizeBytes: number, runs: readonly WrittenRun[]): Buffer {
  const total = runs.reduce((sum, { length }) => sum + length, 0);
  const template = Buffer.alloc(HEADER_BYTES + runs.length * RUN_BYTES + total);
  template.write(MAGIC, "latin1");
  template.writeBigUInt64LE(BigInt(sizeBytes), 16);
  template.writeBigUInt64LE(BigInt(runs.length), 24);
  let data = HEADER_BYTES + runs.length * RUN_BYTES;
  for (const [index, { position, length }] of runs.entries()) {
    const at = HEADER_BYTES + index * RUN_BYTES;
    template.writeBigUInt64LE(BigInt(position), at);
    template.writeBigUInt64LE(BigInt(length), at + 8);
    if (readSync(fd, template, data, length, position) !== length) {
      throw new FirectlError("IO_FAILED", `a new disk has no ${length} bytes at ${position}`);
    }
    data += length;
  }
  return template;
}

/**
 * Makes the disk `path` as the template says, a sparse file that must not exist yet; false when these bytes are no
 * template for a disk of `sizeBytes`.
 * @throws FirectlError NO_SPACE, IO_FAILED.
 */
export async function createFromTemplate(
  path: string,
  template: Buffer,
  sizeBytes: number,
): Promise<boolean> {
  const runs = runsOf(template, sizeBytes);
  if (runs === undefined) return false;
  await writeNewFile(path, (fd) => {
    const file = new BlockFile(fd, path);
    let data = HEADER_BYTES + runs.length * RUN_BYTES;
    for (const { position, length } of runs) {
      file.seekByte(position);
      file.write(template.subarray(data, data + length));
      data += length;
    }
    file.flush();
    ftruncateSync(fd, sizeBytes);
  });
  return true;
}

/** A template comes whole or not at all, but it may be another version's, or somebody else's file. */
function runsOf(template: Buffer, sizeBytes: number): WrittenRun[] | undefined {
  if (template.length < HEADER_BYTES || template.toString("latin1", 0, MAGIC.length) !== MAGIC)
    return undefined;
  const count = Number(template.readBigUInt64LE(24));
  const dataStart = HEADER_BYTES + count * RUN_BYTES;
  if (Number(template.readBigUInt64LE(16)) !== sizeBytes || dataStart > template.length) return undefined;
  const runs: WrittenRun[] = [];
  let total = 0;
  for (let at = HEADER_BYTES; at < dataStart; at += RUN_BYTES) {
    const position = Number(template.readBigUInt64LE(at));
    const length = Number(template.readBigUInt64LE(at + 8));
    if (position + length > sizeBytes) return undefined;
    runs.push({ position, length });
    total += length;
  }
  return dataStart + total === template.length ? runs : undefined;
}
