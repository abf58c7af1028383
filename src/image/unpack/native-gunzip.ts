import zlib from "node:zlib";
import type { Output, SyncDecoder } from "./decoder.ts";

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
 * Unpacks gzip synchronously, straight into `output`: a library's way through node:zlib makes a new buffer for
 * each piece, which V8 collects only after some 64 MiB of them in each thread. Undefined where Node has changed
 * what this rests on; native-gunzip.test.ts tells of it.
 */
export function nativeGunzip(output: Output): SyncDecoder | undefined {
  const stream = zlib.createGunzip();
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
  const run = (flush: number, input: Uint8Array): void => {
    if (failure !== undefined) throw failure;
    let offset = 0;
    for (;;) {
      const space = output.space();
      binding.writeSync(flush, input, offset, input.length - offset, space, 0, space.length);
      if (failure !== undefined) {
        stream.destroy();
        throw failure;
      }
      const [outputLeft = 0, inputLeft = 0] = state;
      output.advance(space.length - outputLeft);
      offset = input.length - inputLeft;
      // A full buffer may mean that there is more of it.
      if (outputLeft > 0) return;
    }
  };
  return {
    write(bytes) {
      run(zlib.constants.Z_NO_FLUSH, bytes);
    },
    end() {
      run(zlib.constants.Z_FINISH, Buffer.alloc(0));
      stream.destroy();
    },
  };
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
