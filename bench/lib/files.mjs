import { closeSync, fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs";

const CHUNK = 256 * 1024;

/** The bytes of a file, in pieces that are good only until the next one is asked for. */
export function* chunksOf(file) {
  const fd = openSync(file, "r");
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  try {
    for (;;) {
      const length = readSync(fd, buffer, 0, CHUNK);
      if (length === 0) return;
      yield buffer.subarray(0, length);
    }
  } finally {
    closeSync(fd);
  }
}

export function writeAll(file, chunks, { sync = false } = {}) {
  const fd = openSync(file, "wx");
  try {
    for (const chunk of chunks) {
      for (let written = 0; written < chunk.length; ) written += writeSync(fd, chunk, written);
    }
    if (sync) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** What a file takes on the disk: holes do not count. */
export function diskBytesOf(file) {
  return statSync(file).blocks * 512;
}

/** What a file's bytes take, as text. */
export function sizeText(file) {
  return `${(statSync(file).size / 1e6).toFixed(0)} MB`;
}
