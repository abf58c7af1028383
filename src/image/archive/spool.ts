import { FirectlError } from "../../core/errors.ts";
import { GIB, MIB } from "../../core/units.ts";
import { ioError } from "../../host/files.ts";
import type { TarEntry } from "../../tar/reader.ts";
import { type ContentStore, digestOf } from "../store/content-store.ts";
import { ingestStream } from "../store/ingest.ts";
import { Archive, type MemberContent } from "./archive.ts";
import { dataOf, tarEvents } from "./tar-events.ts";

/** Members of at most so many bytes are kept in memory: most are a few hundred bytes of JSON. */
const SMALL_MEMBER = MIB;
const MAX_KEPT_BYTES = 32 * MIB;
/** A stream that goes on for ever must not fill the disk. */
const MAX_STREAM_BYTES = 256 * GIB;

/**
 * Reads a tar that comes as a stream: large members go into the store, each once, where those of the wanted image
 * are then found; the next collection takes the rest. The caller holds the store.
 * @throws FirectlError ARCHIVE_INVALID, DIGEST_MISMATCH for a blob that is not what its name says, NO_SPACE.
 */
export async function spoolArchive(
  store: ContentStore,
  chunks: AsyncIterable<Uint8Array>,
  options: { label: string; onReceived: (received: number) => void },
): Promise<Archive> {
  const archive = new Archive(options.label);
  const events = tarEvents(counted(archive, chunks, options.onReceived), (member, _, cause) =>
    archive.unreadable(member, cause),
  );
  let kept = 0;
  for (;;) {
    const next = await events.next();
    if (next.done === true) return archive;
    // Between two members nothing but the head of one can come.
    if (next.value.kind !== "entry") continue;
    const { entry } = next.value;
    if (entry.type !== "file") {
      archive.add(entry, undefined);
      continue;
    }
    if (entry.size <= SMALL_MEMBER && kept + entry.size <= MAX_KEPT_BYTES) {
      kept += entry.size;
      archive.add(entry, await keep(dataOf(events)));
    } else {
      archive.add(entry, await ingest(store, { archive, entry, data: dataOf(events) }));
    }
  }
}

async function keep(data: AsyncIterable<Uint8Array>): Promise<MemberContent> {
  const parts: Uint8Array[] = [];
  for await (const part of data) parts.push(part);
  const bytes = Buffer.concat(parts);
  return {
    digest: undefined,
    async *read({ offset }) {
      if (offset < bytes.length) yield bytes.subarray(offset);
    },
  };
}

async function ingest(
  store: ContentStore,
  member: { archive: Archive; entry: TarEntry; data: AsyncIterable<Uint8Array> },
): Promise<MemberContent> {
  const hex = /^(?:\.\/)?blobs\/sha256\/([0-9a-f]{64})$/.exec(member.entry.path)?.[1];
  const announced = hex === undefined ? undefined : { digest: digestOf(hex), size: member.entry.size };
  if (announced !== undefined && (await store.hasBlob(announced))) {
    for await (const _ of member.data) {
      // It is here already, verified when it came.
    }
    return storedContent(store, announced);
  }
  const blob = await ingestStream(store, member.data);
  if (announced !== undefined && announced.digest !== blob.digest) {
    const what = member.archive.what(member.entry.path);
    throw new FirectlError("DIGEST_MISMATCH", `${what}: it has the digest ${blob.digest}`);
  }
  return storedContent(store, blob);
}

function storedContent(store: ContentStore, blob: Awaited<ReturnType<typeof ingestStream>>): MemberContent {
  return {
    digest: blob.digest,
    async *read({ offset, signal }) {
      const handle = await store.openBlob(blob);
      const chunks: AsyncIterable<Uint8Array> = handle.createReadStream({
        start: offset,
        highWaterMark: 256 * 1024,
        ...(signal === undefined ? {} : { signal }),
      });
      try {
        yield* chunks;
      } catch (error) {
        signal?.throwIfAborted();
        throw ioError(`cannot read blob ${blob.digest}`, error);
      }
    },
  };
}

async function* counted(
  archive: Archive,
  chunks: AsyncIterable<Uint8Array>,
  onReceived: (received: number) => void,
): AsyncGenerator<Uint8Array> {
  let received = 0;
  for await (const chunk of chunks) {
    received += chunk.byteLength;
    if (received > MAX_STREAM_BYTES) throw archive.invalid(undefined, `more than ${MAX_STREAM_BYTES} bytes`);
    onReceived(received);
    yield chunk;
  }
}
