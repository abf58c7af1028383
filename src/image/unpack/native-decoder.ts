import zlib from "node:zlib";
import type { Packed } from "../media-types.ts";
import type { Output, SyncDecoder } from "./decoder.ts";

/**
 * A frame of zstd with one letter in a raw block (RFC 8878, 3.1.1). The binding does not say whether a frame is
 * complete; after one that is, and only then, this gives just that letter.
 */
const PROBE: Buffer = Buffer.from("28b52ffd200109000078", "hex");
const PROBE_CONTENT = "x";

/** What node:zlib's own streams work with, and minizlib before us: a binding that unpacks synchronously. */
interface Binding {
  /** Called during a call that fails. */
  onerror: (message: string, errno: number, code: string) => void;
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
}

interface Internals {
  readonly _handle: Binding;
  /** Bytes left of output and input after a call. */
  readonly _writeState: Uint32Array;
}

/**
 * Unpacks synchronously, straight into `output`: a library's way through node:zlib makes a new buffer for each piece,
 * which V8 collects only after some 64 MiB of them in each thread. And node:zlib's own way with zstd ends with the first
 * frame, where zstd:chunked layers have thousands. Undefined where Node has not got this (zstd before 22.15) or has
 * changed what this rests on; native-decoder.test.ts tells of it.
 */
export function nativeDecoder(compression: Packed, output: Output): SyncDecoder | undefined {
  const stream = compression === "gzip" ? zlib.createGunzip() : zstdStream();
  if (stream === undefined) return undefined;
  if (!hasInternals(stream)) {
    stream.destroy();
    return undefined;
  }
  const { _handle: binding, _writeState: state } = stream;
  let failure: Error | undefined;
  // The stream's own way would be to tell of it later, when the next call must not have been made.
  binding.onerror = (message, errno, code) => {
    failure = Object.assign(new Error(message), { errno, code });
  };
  const run = (flush: number, input: Uint8Array, to: Output): void => {
    if (failure !== undefined) throw failure;
    let offset = 0;
    for (;;) {
      const space = to.space();
      binding.writeSync(flush, input, offset, input.length - offset, space, 0, space.length);
      if (failure !== undefined) {
        stream.destroy();
        throw failure;
      }
      const [outputLeft = 0, inputLeft = 0] = state;
      to.advance(space.length - outputLeft);
      offset = input.length - inputLeft;
      // A full buffer may mean that there is more of it. zstd stops at the end of a frame (and fails rather than get
      // nowhere), gzip goes on to the next member.
      if (outputLeft > 0 && (compression === "gzip" || inputLeft === 0)) return;
    }
  };
  const { Z_NO_FLUSH, Z_FINISH } = zlib.constants;
  let isEmpty = true;
  return {
    write(bytes) {
      isEmpty &&= bytes.length === 0;
      // 0 for zstd too: it takes and gives all that it can.
      run(Z_NO_FLUSH, bytes, output);
    },
    end() {
      if (compression === "gzip") run(Z_FINISH, Buffer.alloc(0), output);
      else if (isEmpty || !isAtEndOfFrame(run)) throw new Error("unexpected end of file");
      stream.destroy();
    },
  };
}

function isAtEndOfFrame(run: (flush: number, input: Uint8Array, to: Output) => void): boolean {
  const parts: Buffer[] = [];
  let space = Buffer.alloc(0);
  const seen: Output = {
    space: () => {
      space = Buffer.alloc(64);
      return space;
    },
    advance: (length) => void parts.push(space.subarray(0, length)),
  };
  try {
    run(0, PROBE, seen);
  } catch {
    return false;
  }
  return Buffer.concat(parts).toString("latin1") === PROBE_CONTENT;
}

/** node:zlib's stream for zstd, which its types do not know yet. */
function zstdStream(): zlib.Gunzip | undefined {
  return "createZstdDecompress" in zlib && typeof zlib.createZstdDecompress === "function"
    ? zlib.createZstdDecompress()
    : undefined;
}

function hasInternals(stream: object): stream is zlib.Gunzip & Internals {
  return (
    "_handle" in stream &&
    typeof stream._handle === "object" &&
    stream._handle !== null &&
    "writeSync" in stream._handle &&
    typeof stream._handle.writeSync === "function" &&
    "onerror" in stream._handle &&
    typeof stream._handle.onerror === "function" &&
    "_writeState" in stream &&
    stream._writeState instanceof Uint32Array &&
    stream._writeState.length === 2
  );
}
