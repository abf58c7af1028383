import { readFileSync, writeFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { crc32c } from "../core/crc32c.ts";
import {
  BLOCK_BYTES,
  decodeRecord,
  decodeRingHeader,
  decodeStatusRegion,
  encodeDriveHead,
  MAX_PAYLOAD_BYTES,
} from "./control-drive-format.ts";
import {
  Phase,
  RootMode,
  type VmSpec,
  VmSpecSchema,
  VmStatusSchema,
} from "./gen/firectl/agent/v1/control_pb.ts";

/** The host's golden bytes are written anew with `UPDATE_GOLDEN=1`, the guest's by the agent's tests. */
const golden = (name: string): URL => new URL(`../../proto/testdata/${name}`, import.meta.url);

const RING_BYTES = 64 * 1024;

function goldenSpec(): VmSpec {
  return create(VmSpecSchema, {
    vmId: "00000000-0000-4000-8000-000000000000",
    hostname: "box",
    process: {
      args: ["/bin/echo", "h\u00e9llo"],
      env: ["A=1"],
      cwd: "/srv",
      user: "app:wheel",
      rlimits: [{ type: "RLIMIT_NOFILE", soft: 1024n, hard: 0xffff_ffff_ffff_ffffn }],
    },
    stopSignal: 15,
    root: { mode: RootMode.OVERLAY, baseDevice: "vda", upperDevice: "vdb", readOnly: true },
    hostTimeUnixNs: 1_700_000_000_000_000_000n,
  });
}

/** A status slot as the guest frames it. */
function slot(sequence: bigint, message: Uint8Array, length = message.length): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  bytes.writeBigUInt64LE(sequence, 0);
  bytes.writeUInt32LE(length, 8);
  bytes.set(message, 16);
  bytes.writeUInt32LE(crc32c(message, crc32c(bytes.subarray(0, 12))), 12);
  return bytes;
}

const statusBytes = (error: string, code = 0, signal = 0): Uint8Array =>
  toBinary(VmStatusSchema, create(VmStatusSchema, { phase: Phase.EXITED, error, exit: { code, signal } }));

describe("the head of the drive", () => {
  test("has its golden bytes", () => {
    const head = encodeDriveHead(goldenSpec(), RING_BYTES);
    if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(golden("control-head.bin"), head);
    expect(head.equals(readFileSync(golden("control-head.bin")))).toBe(true);
  });

  test("is refused when the spec does not fit", () => {
    const spec = goldenSpec();
    spec.hostname = "x".repeat(1024 * 1024);
    expect(() => encodeDriveHead(spec, RING_BYTES)).toThrow(/at most 1036280 fit/);
  });
});

describe("the status", () => {
  test("is read as the agent writes it", () => {
    const region = Buffer.concat([readFileSync(golden("status-slot.bin")), Buffer.alloc(BLOCK_BYTES)]);
    const decoded = decodeStatusRegion(region);
    expect(decoded?.sequence).toBe(0x0102_0304_0506_0708n);
    expect(decoded?.status).toMatchObject({
      phase: Phase.EXITED,
      startedAtUnixNs: 1_700_000_001_000_000_000n,
      finishedAtUnixNs: 1_700_000_002_000_000_000n,
      exit: { code: 137, signal: 9, oomKilled: true },
      error: "h\u00e9llo",
      timings: { agentStartedUs: 1n, rootMountedUs: 2n, workloadStartedUs: 3n },
    });
  });

  test.each([
    ["the higher of two numbers", slot(1n, statusBytes("a")), slot(2n, statusBytes("b")), "b"],
    ["the higher, whichever slot it is in", slot(4n, statusBytes("a")), slot(3n, statusBytes("b")), "a"],
    ["the valid one of two", slot(1n, statusBytes("a")), Buffer.alloc(BLOCK_BYTES, 0xff), "a"],
    ["none when nothing was written", Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES), undefined],
    [
      "none of a length out of bounds",
      slot(1n, statusBytes("a"), 4081),
      Buffer.alloc(BLOCK_BYTES),
      undefined,
    ],
    ["none of what is no message", slot(1n, Buffer.from([0xff, 0xff])), Buffer.alloc(BLOCK_BYTES), undefined],
    ["none of a file cut short", slot(1n, statusBytes("a")).subarray(0, 4000), Buffer.alloc(0), undefined],
  ])("taken is %s", (_name, first, second, error) => {
    expect(decodeStatusRegion(Buffer.concat([first, second]))?.status.error).toBe(error);
  });

  test("does not carry control characters or impossible numbers", () => {
    const region = Buffer.concat([
      slot(1n, statusBytes("a\u001b[2J\n\u0007\u009b", 70_000, 65)),
      Buffer.alloc(BLOCK_BYTES),
    ]);
    expect(decodeStatusRegion(region)?.status).toMatchObject({
      error: "a\ufffd[2J\n\ufffd\ufffd",
      exit: { code: 255, signal: 0 },
    });
  });
});

describe("the output ring", () => {
  const ring = readFileSync(golden("output-ring.bin"));

  test("of the agent has a header and records", () => {
    const header = decodeRingHeader(ring.subarray(0, BLOCK_BYTES), RING_BYTES);
    expect(header).toEqual({ head: 116_625, tail: 68_521 });
  });

  test.each([
    ["an empty header", Buffer.alloc(20)],
    ["a short one", Buffer.alloc(10)],
    ["noise", Buffer.alloc(20, 0xa5)],
  ])("has no meaning in %s", (_name, header) => {
    const decoded = decodeRingHeader(header, RING_BYTES);
    expect(decoded === undefined || decoded.head === 0).toBe(true);
  });

  test.each([
    [5n, 6n],
    [65_537n, 0n],
    [2n ** 60n, 2n ** 60n],
  ])("refuses head %d with tail %d", (head, tail) => {
    const header = Buffer.alloc(20);
    header.writeBigUInt64LE(head, 0);
    header.writeBigUInt64LE(tail, 8);
    header.writeUInt32LE(crc32c(header.subarray(0, 16)), 16);
    expect(decodeRingHeader(header, RING_BYTES)).toBeUndefined();
  });

  test("never takes arbitrary bytes for more than they are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const decoded = decodeRecord(Buffer.from(bytes));
        if (typeof decoded !== "string") expect(decoded.length).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });

  test.each([
    [0, 1, "invalid"],
    [MAX_PAYLOAD_BYTES, 1, "incomplete"],
    [MAX_PAYLOAD_BYTES + 1, 1, "invalid"],
    [10, 0, "invalid"],
    [10, 3, "invalid"],
    [10, 0x101, "invalid"],
  ])("judges a record of %d bytes and kind %d from its header: %s", (length, kind, verdict) => {
    const header = Buffer.alloc(20);
    header.writeUInt32LE(length, 0);
    header.writeUInt32LE(kind, 4);
    expect(decodeRecord(header)).toBe(verdict);
  });
});
