const CHUNK_BYTES = 256 * 1024;

/** The same bytes in chunks of some 256 KiB: those of an archive are often a header of 512. */
export async function* gatherChunks(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let gathered: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    gathered.push(chunk);
    size += chunk.length;
    if (size < CHUNK_BYTES) continue;
    yield joined(gathered, size);
    gathered = [];
    size = 0;
  }
  if (size > 0) yield joined(gathered, size);
}

function joined(chunks: readonly Uint8Array[], size: number): Uint8Array {
  const [first] = chunks;
  return chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks, size);
}
