import type { Gunzip } from "minizlib";
import type { Packed } from "../media-types.ts";
import { nativeDecoder } from "./native-decoder.ts";

/** zlib's output buffer, an option of node:zlib that minizlib passes on without declaring it. */
const ZLIB_OPTIONS: object = { chunkSize: 256 * 1024 };
/** fzstd recurses once a frame: this bounds the frames, of 13 bytes and more, that one call can meet. */
const ZSTD_PIECE_BYTES = 32 * 1024;

/** Unpacks what it is given at once, on the calling thread; throws when that is damaged. */
export interface SyncDecoder {
  write(bytes: Uint8Array): void;
  /** @throws Error when the stream is not complete. */
  end(): void;
}

/** Where a decoder puts its bytes. */
export interface Output {
  /** Memory for the next bytes, at least one. */
  space(): Uint8Array;
  /** So many bytes have been put there. */
  advance(length: number): void;
}

/** A decoder into `output`. The libraries are loaded where they are needed: most layers need none. */
export async function decoderFor(compression: Packed, output: Output): Promise<SyncDecoder> {
  const native = nativeDecoder(compression, output);
  if (native !== undefined) return native;
  const put = (bytes: Uint8Array): void => copyTo(output, bytes);
  return compression === "gzip"
    ? zlibDecoder(new (await import("minizlib")).Gunzip(ZLIB_OPTIONS), put)
    : zstdDecoder(put);
}

function copyTo(output: Output, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const space = output.space();
    const length = Math.min(space.length, bytes.length - done);
    space.set(bytes.subarray(done, done + length));
    output.advance(length);
    done += length;
  }
}

function zlibDecoder(stream: Gunzip, put: (bytes: Uint8Array) => void): SyncDecoder {
  let failure: Error | undefined;
  stream.on("error", (error) => {
    failure = error instanceof Error ? error : new Error(String(error));
  });
  stream.on("data", put);
  const check = (): void => {
    if (failure !== undefined) throw failure;
  };
  return {
    write(bytes) {
      stream.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      check();
    },
    end() {
      stream.end();
      check();
    },
  };
}

/** fzstd's checksums are not looked at: the diff_id covers all of it. */
async function zstdDecoder(put: (bytes: Uint8Array) => void): Promise<SyncDecoder> {
  const { Decompress } = await import("fzstd");
  const decoder = new Decompress(put);
  let isEmpty = true;
  return {
    write(bytes) {
      for (let start = 0; start < bytes.length; start += ZSTD_PIECE_BYTES) {
        isEmpty = false;
        // Copied: it keeps what it has not used yet.
        decoder.push(Uint8Array.from(bytes.subarray(start, start + ZSTD_PIECE_BYTES)), false);
      }
    },
    end() {
      if (isEmpty) throw new Error("unexpected end of file");
      decoder.push(new Uint8Array(0), true);
    },
  };
}
