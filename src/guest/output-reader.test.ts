import { readFileSync } from "node:fs";
import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { crc32c } from "../core/crc32c.ts";
import { MIB } from "../core/units.ts";
import { createControlDrive, readStatus, watchStatus } from "./control-drive.ts";
import { BLOCK_BYTES, OUTPUT_OFFSET, RING_OFFSET, STATUS_OFFSET } from "./control-drive-format.ts";
import { VmSpecSchema } from "./gen/firectl/agent/v1/control_pb.ts";
import { type OutputEvent, OutputReader } from "./output-reader.ts";

const RING_BYTES = 64 * 1024;
const RING = readFileSync(new URL("../../proto/testdata/output-ring.bin", import.meta.url));
const STATUS = readFileSync(new URL("../../proto/testdata/status-slot.bin", import.meta.url));

let directory: string;
let drive: FileHandle;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "firectl-drive-"));
  const path = join(directory, "control.img");
  await createControlDrive(path, { spec: create(VmSpecSchema, { vmId: "x" }), outputBytes: RING_BYTES });
  drive = await open(path, "r+");
});

afterEach(async () => {
  await drive.close();
  await rm(directory, { recursive: true });
});

/** A record as the agent writes it. */
function record(text: string | Buffer, stream = 1): Buffer {
  const payload = Buffer.from(text);
  const header = Buffer.alloc(20);
  header.writeUInt32LE(payload.length, 0);
  header[4] = stream;
  header.writeUInt32LE(crc32c(payload, crc32c(header.subarray(0, 16))), 16);
  return Buffer.concat([header, payload]);
}

async function writeHeader(head: number, tail: number): Promise<void> {
  const header = Buffer.alloc(20);
  header.writeBigUInt64LE(BigInt(head), 0);
  header.writeBigUInt64LE(BigInt(tail), 8);
  header.writeUInt32LE(crc32c(header.subarray(0, 16)), 16);
  await drive.write(header, 0, header.length, OUTPUT_OFFSET);
}

/** Writes `bytes` at a position of the ring, round its end if need be. */
async function writeRing(position: number, bytes: Buffer): Promise<void> {
  const start = position % RING_BYTES;
  const first = bytes.subarray(0, RING_BYTES - start);
  await drive.write(first, 0, first.length, RING_OFFSET + start);
  if (first.length < bytes.length)
    await drive.write(bytes, first.length, bytes.length - first.length, RING_OFFSET);
}

async function collect(events: AsyncIterable<OutputEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of events) {
    seen.push(
      "lost" in event ? `lost ${event.lost}` : `${event.stream} ${Buffer.from(event.data).toString()}`,
    );
  }
  return seen;
}

test("a fresh drive is small on disk and has neither status nor output", async () => {
  expect((await drive.stat()).blocks * 512).toBeLessThan(64 * 1024);
  expect((await drive.stat()).mode & 0o777).toBe(0o600);
  expect(await readStatus(drive)).toBeUndefined();
  expect(await collect(new OutputReader(drive).available())).toEqual([]);
});

test("a drive is not made over another", async () => {
  const path = join(directory, "control.img");
  await expect(createControlDrive(path, { spec: create(VmSpecSchema) })).rejects.toMatchObject({
    code: "IO_FAILED",
  });
});

test("statuses come as they are written, until the signal", async () => {
  const stop = new AbortController();
  await drive.write(STATUS, 0, BLOCK_BYTES, STATUS_OFFSET);
  const seen: bigint[] = [];
  const watching = (async () => {
    for await (const status of watchStatus(drive, { signal: stop.signal })) {
      seen.push(status.startedAtUnixNs);
      if (seen.length === 2) stop.abort(new Error("enough"));
      else {
        const second = Buffer.from(STATUS);
        second.writeBigUInt64LE(0x0102_0304_0506_0709n, 0);
        const end = 16 + second.readUInt32LE(8);
        second.writeUInt32LE(crc32c(second.subarray(16, end), crc32c(second.subarray(0, 12))), 12);
        await drive.write(second, 0, BLOCK_BYTES, STATUS_OFFSET + BLOCK_BYTES);
      }
    }
  })();
  await expect(watching).rejects.toThrow("enough");
  expect(seen).toHaveLength(2);
});

describe("the agent's own ring", () => {
  test("is read from its tail, record for record", async () => {
    await drive.write(RING, 0, RING.length, OUTPUT_OFFSET);
    const reader = new OutputReader(drive);
    const events: OutputEvent[] = [];
    for await (const event of reader.available()) events.push(event);
    expect(events[0]).toEqual({ lost: 68_521 });
    const records = events.slice(1).flatMap((event) => ("lost" in event ? [] : [event]));
    const first = Number((records[0]?.timeUnixNs ?? 0n) - 1_700_000_000_000_000_000n);
    expect(records).toHaveLength(150 - first);
    records.forEach((event, index) => {
      const number = first + index;
      const payload = Buffer.from(
        Array.from({ length: 1 + ((number * 397) % 1500) }, (_, at) => (number * 7 + at) & 0xff),
      );
      expect(event.stream).toBe(number % 3 === 0 ? "stderr" : "stdout");
      expect(payload.equals(event.data)).toBe(true);
    });
    expect(reader.position).toBe(116_625);
    expect(await collect(reader.available())).toEqual([]);
  });
});

describe("following", () => {
  test("delivers what is written, soon, and ends after the end", async () => {
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const latencies: number[] = [];
    const seen: string[] = [];
    let position = 0;
    let writtenAt = 0;
    const write = async (text: string): Promise<void> => {
      const bytes = record(text);
      await writeRing(position, bytes);
      position += bytes.length;
      writtenAt = performance.now();
      await writeHeader(position, 0);
    };
    await write("0");
    for await (const event of new OutputReader(drive).follow({ ended })) {
      if ("lost" in event) throw new Error("nothing was lost");
      latencies.push(performance.now() - writtenAt);
      seen.push(Buffer.from(event.data).toString());
      if (seen.length < 20) setTimeout(() => void write(String(seen.length)), 5);
      else if (seen.length === 20) {
        await write("last");
        end();
      }
    }
    expect(seen).toEqual([...Array.from({ length: 20 }, (_, index) => String(index)), "last"]);
    // Without events the next look comes after 250 ms.
    expect(latencies.sort((a, b) => a - b)[10]).toBeLessThan(125);
  });

  test("ends by its signal with the signal's reason", async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error("enough")), 20);
    const ended = new Promise(() => {});
    await expect(collect(new OutputReader(drive).follow({ ended, signal: stop.signal }))).rejects.toThrow(
      "enough",
    );
  });
});

describe("a guest that writes as fast as it is read", () => {
  const piece = record("x".repeat(1000));
  let head: number;
  const write = async (): Promise<void> => {
    await writeRing(head, piece);
    head += piece.length;
    await writeHeader(head, Math.max(0, head - RING_BYTES + piece.length));
  };

  test("has an end of what is there, and following goes on from it", async () => {
    head = 0;
    for (let i = 0; i < 20; i++) await write();
    const reader = new OutputReader(drive);
    let stored = 0;
    for await (const event of reader.available()) {
      expect(event).toHaveProperty("data");
      stored++;
      if (stored > 100) break;
      await write();
    }
    expect(stored).toBe(20);
    expect(reader.position).toBe(20 * piece.length);
    let followed = 0;
    for await (const event of reader.follow({ ended: Promise.resolve() })) {
      expect(event).toHaveProperty("data");
      followed++;
    }
    expect(followed).toBe(20);
    expect(reader.position).toBe(head);
  });

  test("may have written over what is left of it: that is lost", async () => {
    await drive.truncate(RING_OFFSET + 2 * MIB);
    const whole = Buffer.concat(Array.from({ length: 1000 }, () => piece));
    await drive.write(whole, 0, whole.length, RING_OFFSET);
    await writeHeader(whole.length, 0);
    const reader = new OutputReader(drive);
    let read = 0;
    let lost = 0;
    for await (const event of reader.available()) {
      if ("lost" in event) lost += event.lost;
      else read++;
      await writeHeader(whole.length + 2 * MIB, whole.length + 1 * MIB);
    }
    // What had been read from the file by then, and no more.
    expect(read).toBe(Math.floor((512 * 1024) / piece.length));
    expect(lost).toBe(whole.length + 1 * MIB - read * piece.length);
    expect(reader.position).toBe(whole.length + 1 * MIB);
  });

  test("does not keep a follower after its end", async () => {
    head = 0;
    await write();
    let seen = 0;
    for await (const _ of new OutputReader(drive).follow({ ended: Promise.resolve() })) {
      seen++;
      if (seen > 1000) break;
      await write();
    }
    expect(seen).toBeLessThan(10);
  });
});

describe("hostile and torn bytes", () => {
  test("a record that is none costs the rest up to the head, no more", async () => {
    const good = record("good");
    await writeRing(0, Buffer.concat([good, Buffer.alloc(100, 0xff)]));
    await writeHeader(good.length + 100, 0);
    const reader = new OutputReader(drive);
    expect(await collect(reader.available())).toEqual(["stdout good", "lost 100"]);
    await writeRing(reader.position, record("next", 2));
    await writeHeader(reader.position + record("next").length, 0);
    expect(await collect(reader.available())).toEqual(["stderr next"]);
  });

  test("a record that runs past the head is none", async () => {
    await writeRing(0, record("0123456789"));
    await writeHeader(25, 0);
    expect(await collect(new OutputReader(drive).available())).toEqual(["lost 25"]);
  });

  test("a record whose checksum is wrong is none", async () => {
    const bytes = record("0123456789");
    bytes[25] = 0;
    await writeRing(0, bytes);
    await writeHeader(bytes.length, 0);
    expect(await collect(new OutputReader(drive).available())).toEqual([`lost ${bytes.length}`]);
  });

  test("a head that goes back is not followed", async () => {
    const bytes = record("once");
    await writeRing(0, bytes);
    await writeHeader(bytes.length, 0);
    const reader = new OutputReader(drive);
    expect(await collect(reader.available())).toEqual(["stdout once"]);
    await writeHeader(1, 0);
    expect(await collect(reader.available())).toEqual([]);
  });

  test("a torn header is passed over", async () => {
    await drive.write(Buffer.alloc(20, 0x55), 0, 20, OUTPUT_OFFSET);
    expect(await collect(new OutputReader(drive).available())).toEqual([]);
  });

  test("a record across the end of the ring is one record", async () => {
    const start = RING_BYTES - 7;
    await writeRing(start, record("across"));
    await writeHeader(start + record("across").length, start);
    expect(await collect(new OutputReader(drive, start).available())).toEqual(["stdout across"]);
  });

  test("a file that is too short is refused", async () => {
    await drive.truncate(RING_OFFSET);
    await expect(collect(new OutputReader(drive).available())).rejects.toMatchObject({
      code: "CONTROL_DRIVE_INVALID",
    });
  });
});
