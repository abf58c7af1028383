import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FirectlError } from "../core/errors.ts";
import { KIB, MIB } from "../core/units.ts";
import type { EntryType, TarEntry } from "../tar/reader.ts";
import { storedSize, type TarContent } from "../tar/writer.ts";
import {
  type CopyEntry,
  CopyEntrySchema,
  type CopyRecord,
  CopyRecordSchema,
  FileKind,
} from "./gen/firectl/agent/v1/copy_pb.ts";

/*
 * Copies on their way to and from a guest: the records of proto/firectl/agent/v1/copy.proto, each preceded by its
 * length. The guest's are hostile: sizes are bounded before use, names checked before anybody sees them.
 */

/** Largest record that a guest may send: its data are at most 128 KiB, a sparse file's map may be longer. */
const MAX_RECORD_BYTES: number = 4 * MIB;
const DATA_BYTES: number = 128 * KIB;
/** Longest path that is copied, in bytes; agent/src/copy_out.rs sends none longer. */
const MAX_PATH_BYTES = 2 * 65_536;

const KINDS: Readonly<Record<EntryType, FileKind>> = {
  file: FileKind.FILE,
  directory: FileKind.DIRECTORY,
  symlink: FileKind.SYMLINK,
  link: FileKind.LINK,
  "character-device": FileKind.CHARACTER_DEVICE,
  "block-device": FileKind.BLOCK_DEVICE,
  fifo: FileKind.FIFO,
};
const TYPES: ReadonlyMap<FileKind, EntryType> = new Map(
  // Object.entries forgets what the keys are.
  Object.entries(KINDS).map(([type, kind]) => [kind, type as EntryType]),
);

/** An entry as a record. */
export function encodeEntry(entry: TarEntry): Uint8Array {
  return encodeRecord({
    case: "entry",
    value: create(CopyEntrySchema, {
      path: bytesOf(entry.path.replace(/\/+$/, "")),
      kind: KINDS[entry.type],
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      size: BigInt(entry.size),
      mtimeSec: BigInt(entry.mtimeSec),
      mtimeNsec: entry.mtimeNsec,
      link: bytesOf(entry.type === "link" ? entry.linkPath.replace(/\/+$/, "") : entry.linkPath),
      devMajor: entry.devMajor,
      devMinor: entry.devMinor,
      xattrs: (entry.xattrs ?? []).map(({ name, value }) => ({ name: bytesOf(name), value })),
      ...(entry.sparse === undefined || entry.type !== "file"
        ? {}
        : {
            segments: {
              segments: entry.sparse.map(({ offset, length }) => ({
                offset: BigInt(offset),
                length: BigInt(length),
              })),
            },
          }),
    }),
  });
}

/** Data as records. */
export function* encodeData(data: Uint8Array): Generator<Uint8Array, void> {
  for (let at = 0; at < data.length; at += DATA_BYTES) {
    yield encodeRecord({ case: "data", value: data.subarray(at, at + DATA_BYTES) });
  }
}

/** The record that says that a copy is whole. */
export function encodeEnd(): Uint8Array {
  return encodeRecord({ case: "end", value: {} });
}

/** A copy as records. */
export async function* encodeCopy(contents: AsyncIterable<TarContent>): AsyncGenerator<Uint8Array, void> {
  for await (const { entry, data } of contents) {
    yield encodeEntry(entry);
    for await (const piece of data ?? []) yield* encodeData(piece);
  }
  yield encodeEnd();
}

function encodeRecord(record: NonNullable<MessageInitShape<typeof CopyRecordSchema>["record"]>): Uint8Array {
  const message = toBinary(CopyRecordSchema, create(CopyRecordSchema, { record }));
  const prefix: number[] = [];
  let rest = message.length;
  for (; rest > 0x7f; rest >>>= 7) prefix.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...prefix, rest]), message]);
}

/**
 * The entries of a copy, the first of which is what the copy is of and has no path. Each entry's data is to be read
 * before the next entry is asked for; what is not is passed over.
 * @throws FirectlError AGENT_FAILED for whatever no honest agent sends, also when the records end without an end.
 */
export async function* decodeCopy(
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ readonly entry: TarEntry; readonly data: AsyncGenerator<Uint8Array, void> }, void> {
  const records = recordsIn(pieces);
  const next = async (): Promise<CopyRecord["record"]> => {
    const { value, done } = await records.next();
    if (done === true) throw invalid("it was cut off");
    return value.record;
  };
  let record = await next();
  let isFirst = true;
  while (record.case === "entry") {
    const entry = entryOf(record.value, isFirst);
    isFirst = false;
    record = await next();
    let left = storedSize(entry);
    async function* data(): AsyncGenerator<Uint8Array, void> {
      while (left > 0) {
        if (record.case !== "data" || record.value.length > left) break;
        const piece: Uint8Array = record.value;
        left -= piece.length;
        record = await next();
        yield piece;
      }
      if (left > 0 || record.case === "data")
        throw invalid(`the data of ${shown(entry.path)} is not its size`);
    }
    yield { entry, data: data() };
    for await (const _ of data());
  }
  if (record.case !== "end" || isFirst) throw invalid("it is not in order");
}

async function* recordsIn(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<CopyRecord, void> {
  /** The first bytes of a length whose others have yet to come. */
  let prefix: Buffer = Buffer.alloc(0);
  /** A record of which the first `filled` bytes are there: however small the pieces, each byte is copied once. */
  let record: Buffer | undefined;
  let filled = 0;
  for await (const piece of pieces) {
    let rest: Buffer = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    while (rest.length > 0) {
      if (record !== undefined) {
        const taken = rest.copy(record, filled);
        filled += taken;
        rest = rest.subarray(taken);
        if (filled < record.length) break;
        yield parseRecord(record);
        record = undefined;
        continue;
      }
      if (prefix.length > 0) rest = Buffer.concat([prefix, rest]);
      const place = recordAt(rest);
      prefix = place === undefined ? rest : Buffer.alloc(0);
      if (place === undefined) break;
      const { start, end } = place;
      if (end > rest.length) {
        record = Buffer.allocUnsafe(end - start);
        filled = rest.copy(record, 0, start);
        break;
      }
      yield parseRecord(rest.subarray(start, end));
      rest = rest.subarray(end);
    }
  }
  if (prefix.length > 0 || record !== undefined) throw invalid("it was cut off");
}

function parseRecord(bytes: Uint8Array): CopyRecord {
  try {
    return fromBinary(CopyRecordSchema, bytes);
  } catch (error) {
    throw invalid("a record cannot be read", error);
  }
}

/** Where the record is whose length, a varint, comes first; undefined when the bytes end within that. */
function recordAt(bytes: Buffer): { start: number; end: number } | undefined {
  let length = 0;
  for (let index = 0; index < 4; index++) {
    const byte = bytes[index];
    if (byte === undefined) return undefined;
    length |= (byte & 0x7f) << (7 * index);
    if (byte < 0x80) {
      if (length > MAX_RECORD_BYTES) break;
      return { start: index + 1, end: index + 1 + length };
    }
  }
  throw invalid("a record is too long");
}

function entryOf(raw: CopyEntry, isFirst: boolean): TarEntry {
  const path = textOf(raw.path);
  const type = TYPES.get(raw.kind);
  const isNamed = isFirst ? path === "" : isPath(path);
  if (type === undefined || !isNamed || path.length > MAX_PATH_BYTES || (isFirst && type === "link")) {
    throw invalid(`${shown(path)} is no entry of a copy`);
  }
  const linkPath = textOf(raw.link);
  if (linkPath.includes("\0") || (type === "link" && linkPath !== "" && !isPath(linkPath))) {
    throw invalid(`${shown(path)} links to what is no path`);
  }
  const size = type === "file" ? Number(raw.size) : 0;
  const mtimeSec = Number(raw.mtimeSec);
  const sparse = type === "file" ? raw.segments?.segments.map(segmentOf) : undefined;
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(mtimeSec) || !fits(sparse ?? [], size)) {
    throw invalid(`${shown(path)} has a size or time that no file has`);
  }
  const mtimeNsec = Math.min(raw.mtimeNsec, 999_999_999);
  return {
    path,
    type,
    mode: raw.mode & 0o7777,
    uid: raw.uid,
    gid: raw.gid,
    size,
    mtimeSec,
    mtimeNsec,
    atimeSec: mtimeSec,
    atimeNsec: mtimeNsec,
    linkPath,
    devMajor: raw.devMajor,
    devMinor: raw.devMinor,
    xattrs:
      raw.xattrs.length === 0
        ? undefined
        : raw.xattrs.map(({ name, value }) => ({ name: textOf(name), value: Buffer.from(value) })),
    sparse,
  };
}

function segmentOf({ offset, length }: { offset: bigint; length: bigint }): {
  offset: number;
  length: number;
} {
  return { offset: Number(offset), length: Number(length) };
}

function fits(segments: ReadonlyArray<{ offset: number; length: number }>, size: number): boolean {
  let end = 0;
  return segments.every(({ offset, length }) => {
    const isAfter = offset >= end && length > 0;
    end = offset + length;
    return isAfter && end <= size;
  });
}

/** Whether it is names one after the other, none of which leads elsewhere. */
function isPath(path: string): boolean {
  return path.split("/").every((name) => !["", ".", ".."].includes(name) && !name.includes("\0"));
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

function shown(path: string): string {
  return JSON.stringify(Buffer.from(path.slice(0, 200), "latin1").toString("utf8"));
}

function invalid(problem: string, cause?: unknown): FirectlError {
  return new FirectlError("AGENT_FAILED", `the guest's copy is not to be trusted: ${problem}`, { cause });
}
