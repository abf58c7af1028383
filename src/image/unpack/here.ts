import type { Packed } from "../media-types.ts";

/** Compressed bytes given to a decoder at a time: it may make a thousand times as many of them at once. */
const PIECE_BYTES = 16 * 1024;
const OUTPUT_BYTES = 64 * 1024;

/**
 * The uncompressed bytes of what comes, unpacked by this thread.
 * @throws Error when it is damaged or not complete.
 */
export async function* unpackHere(
  chunks: AsyncIterable<Uint8Array>,
  compression: Packed,
): AsyncGenerator<Uint8Array> {
  const { decoderFor } = await import("./decoder.ts");
  let output: Uint8Array[] = [];
  let space = Buffer.alloc(0);
  const decoder = await decoderFor(compression, {
    space() {
      if (space.length === 0) space = Buffer.allocUnsafe(OUTPUT_BYTES);
      return space;
    },
    advance(length) {
      if (length > 0) output.push(space.subarray(0, length));
      space = space.subarray(length);
    },
  });
  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.length; start += PIECE_BYTES) {
      decoder.write(chunk.subarray(start, start + PIECE_BYTES));
      const ready = output;
      output = [];
      yield* ready;
    }
  }
  decoder.end();
  yield* output;
}
