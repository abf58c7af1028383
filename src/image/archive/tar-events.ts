import { type OnFailure, type TarEntry, TarReader } from "../../tar/reader.ts";

/** What a tar holds, one thing after the other: an entry and, for a file, its data and its end. */
export type TarEvent =
  | { readonly kind: "entry"; readonly entry: TarEntry }
  | { readonly kind: "data"; readonly data: Uint8Array }
  | { readonly kind: "end" };

/**
 * Reads a tar that comes in pieces, each a buffer of its own that nobody writes into again.
 * @param fail Makes the error for a tar that cannot be read.
 */
export async function* tarEvents(
  chunks: AsyncIterable<Uint8Array>,
  fail: OnFailure,
): AsyncGenerator<TarEvent, undefined> {
  let found: TarEvent[] = [];
  const reader = new TarReader(
    "",
    {
      entry(entry) {
        found.push({ kind: "entry", entry });
        return entry.type === "file";
      },
      data: (data) => found.push({ kind: "data", data }),
      end: () => found.push({ kind: "end" }),
    },
    fail,
  );
  for await (const chunk of chunks) {
    reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    yield* found;
    found = [];
  }
  reader.finish();
}

/** The data of the file whose head has just come. */
export async function* dataOf(events: AsyncIterator<TarEvent, undefined>): AsyncGenerator<Uint8Array> {
  for (let next = await events.next(); next.done !== true; next = await events.next()) {
    if (next.value.kind === "end") return;
    if (next.value.kind === "data") yield next.value.data;
  }
}
