import { create, toBinary } from "@bufbuild/protobuf";
import { describe, test, vi } from "vitest";
import type { TarEntry } from "../tar/reader.ts";
import type { TarContent } from "../tar/writer.ts";
import { decodeCopy, encodeCopy, encodeData, encodeEnd, encodeEntry } from "./copy-stream.ts";
import { CopyRecordSchema, FileKind } from "./gen/firectl/agent/v1/copy_pb.ts";

const ENTRY: TarEntry = {
  path: "",
  type: "file",
  mode: 0o4755,
  uid: 5,
  gid: 4_000_000_000,
  size: 300_000,
  mtimeSec: -1,
  mtimeNsec: 5,
  atimeSec: -1,
  atimeNsec: 5,
  linkPath: "",
  devMajor: 0,
  devMinor: 0,
  xattrs: [{ name: "user.a", value: Buffer.from([0, 255]) }],
  sparse: undefined,
};

async function* stream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

async function read(pieces: readonly Uint8Array[]): Promise<Array<{ entry: TarEntry; data: string }>> {
  const found = [];
  for await (const { entry, data } of decodeCopy(stream(pieces))) {
    const parts: Uint8Array[] = [];
    for await (const piece of data) parts.push(Uint8Array.from(piece));
    found.push({ entry, data: Buffer.concat(parts).toString("latin1") });
  }
  return found;
}

describe("a copy's records", () => {
  test("are read as they were written, however they are cut", async ({ expect }) => {
    const directory: TarEntry = { ...ENTRY, type: "directory", size: 0, xattrs: undefined };
    const file: TarEntry = { ...ENTRY, path: "d/\u00ff", sparse: [{ offset: 10, length: 299_990 }] };
    const link: TarEntry = {
      ...ENTRY,
      path: "l",
      type: "link",
      size: 0,
      linkPath: "d/\u00ff",
      xattrs: undefined,
    };
    const contents: TarContent[] = [
      { entry: directory },
      { entry: file, data: [Buffer.alloc(200_000, 120), Buffer.alloc(99_990, 121)] },
      { entry: link },
    ];
    const pieces: Uint8Array[] = [];
    for await (const piece of encodeCopy(stream(contents))) pieces.push(piece);
    const whole = Buffer.concat(pieces);
    for (const size of [whole.length, 1, 1000, 65_537]) {
      const cut = Array.from({ length: Math.ceil(whole.length / size) }, (_, at) =>
        whole.subarray(at * size, (at + 1) * size),
      );
      const found = await read(cut);
      expect(found.map(({ entry }) => entry)).toEqual([directory, file, link]);
      expect(found.map(({ data }) => data.length)).toEqual([0, 299_990, 0]);
    }
    await expect(read([whole.subarray(0, -1)])).rejects.toThrow(/cut off/);
    await expect(read([whole.subarray(0, -2)])).rejects.toThrow(/cut off/);
  });

  test("are not copied again with each piece that comes", async ({ expect }) => {
    const whole = Buffer.concat([
      encodeEntry({ ...ENTRY, size: 100_000 }),
      ...encodeData(Buffer.alloc(100_000)),
      encodeEnd(),
    ]);
    let copied = 0;
    const concat = Buffer.concat.bind(Buffer);
    using spy = vi.spyOn(Buffer, "concat").mockImplementation((parts, length) => {
      const result = concat(parts, length);
      copied += result.length;
      return result;
    });
    let read = 0;
    const pieces = Array.from({ length: whole.length }, (_, at) => whole.subarray(at, at + 1));
    for await (const { data } of decodeCopy(stream(pieces)))
      for await (const piece of data) read += piece.length;
    expect(read).toBe(100_000);
    expect(spy).toHaveBeenCalled();
    expect(copied).toBeLessThan(100);
  });

  const raw = (entry: object) => {
    const message = toBinary(
      CopyRecordSchema,
      create(CopyRecordSchema, { record: { case: "entry", value: entry } }),
    );
    return Buffer.concat([Buffer.from([message.length]), message]);
  };
  const root = encodeEntry({ ...ENTRY, type: "directory", size: 0 });

  test.for<[what: string, pieces: readonly Uint8Array[]]>([
    ["a name that leads out", [root, raw({ path: Buffer.from("a/../../b"), kind: FileKind.FILE })]],
    ["an absolute name", [root, raw({ path: Buffer.from("/etc"), kind: FileKind.FILE })]],
    ["a NUL", [root, raw({ path: Buffer.from("a\0"), kind: FileKind.FILE })]],
    ["a first entry with a name", [raw({ path: Buffer.from("a"), kind: FileKind.FILE })]],
    ["a kind that is none", [raw({ kind: 99 })]],
    [
      "a link to what is no path",
      [root, raw({ path: Buffer.from("a"), kind: FileKind.LINK, link: Buffer.from("../b") })],
    ],
    ["a size that no file has", [raw({ kind: FileKind.FILE, size: 2n ** 60n })]],
    [
      "segments beyond the size",
      [raw({ kind: FileKind.FILE, size: 1n, segments: { segments: [{ offset: 1n, length: 1n }] } })],
    ],
    ["more data than the size", [encodeEntry({ ...ENTRY, size: 1 }), ...encodeData(Buffer.from("ab"))]],
    [
      "less data than the size",
      [encodeEntry({ ...ENTRY, size: 3 }), ...encodeData(Buffer.from("ab")), encodeEnd()],
    ],
    ["nothing", [encodeEnd()]],
    ["a record that is too long", [Buffer.from([0xff, 0xff, 0xff, 0x7f])]],
    ["what is no record", [Buffer.from([2, 0xff, 0xff])]],
  ])("are refused with %s", async ([, pieces], { expect }) => {
    await expect(read(pieces)).rejects.toMatchObject({ code: "AGENT_FAILED" });
  });
});
