/**
 * The control drive's bytes, as docs/control-drive.md draws them: pure encoding and decoding.
 * Everything the guest can write is hostile: lengths are bounded before use and checksums verified.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { crc32c } from "../core/crc32c.ts";
import { FirectlError } from "../core/errors.ts";
import { KIB, MIB } from "../core/units.ts";
import { CONTROL_MESSAGES } from "./gen/firectl/agent/v1/control_fields.ts";
import type { VmSpecSchema, VmStatus } from "./gen/firectl/agent/v1/control_pb.ts";
import { printable } from "./printable.ts";
import { decodeMessage, encodeMessage } from "./wire.ts";

/** The orders of a guest: fields that are left out have their defaults. */
export type SpecInit = MessageInitShape<typeof VmSpecSchema>;

export const BLOCK_BYTES: number = 4 * KIB;

/** Where the regions lie. The host goes by this, the guest by the superblock. */
export const STATUS_OFFSET: number = 1 * BLOCK_BYTES;
export const STATUS_BYTES: number = 2 * BLOCK_BYTES;
const SPEC_OFFSET = STATUS_OFFSET + STATUS_BYTES;
export const OUTPUT_OFFSET: number = 1 * MIB;
export const RING_OFFSET: number = OUTPUT_OFFSET + BLOCK_BYTES;
const SPEC_BYTES = OUTPUT_OFFSET - SPEC_OFFSET;

const MAGIC = "FIRECTL\0";
const VERSION = 1;
const SPEC_HEADER_BYTES = 8;
const SLOT_HEADER_BYTES = 16;
export const RECORD_HEADER_BYTES = 20;
export const MAX_PAYLOAD_BYTES: number = 64 * KIB;
/** A ring has room for a few records at least. */
export const MIN_RING_BYTES: number = 64 * KIB;

/**
 * The drive's bytes up to the end of the spec; the rest is zero.
 * @throws FirectlError INVALID_ARGUMENT when the spec is larger than its region.
 */
export function encodeDriveHead(spec: SpecInit, ringBytes: number): Buffer {
  const message = encodeMessage(CONTROL_MESSAGES, "VmSpec", spec);
  if (SPEC_HEADER_BYTES + message.length > SPEC_BYTES) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `command and environment take ${message.length} bytes, at most ${SPEC_BYTES - SPEC_HEADER_BYTES} fit`,
      { hint: "pass large values in a file or a volume instead" },
    );
  }
  const head = Buffer.alloc(SPEC_OFFSET + SPEC_HEADER_BYTES + message.length);
  head.write(MAGIC, 0, "latin1");
  head.writeUInt32LE(VERSION, 8);
  const regions = [
    [16, SPEC_OFFSET, SPEC_BYTES],
    [32, STATUS_OFFSET, STATUS_BYTES],
    [48, OUTPUT_OFFSET, BLOCK_BYTES + ringBytes],
  ] as const;
  for (const [at, offset, length] of regions) {
    head.writeBigUInt64LE(BigInt(offset), at);
    head.writeBigUInt64LE(BigInt(length), at + 8);
  }
  head.writeUInt32LE(crc32c(head.subarray(0, BLOCK_BYTES - 4)), BLOCK_BYTES - 4);
  head.writeUInt32LE(message.length, SPEC_OFFSET);
  head.writeUInt32LE(crc32c(message), SPEC_OFFSET + 4);
  head.set(message, SPEC_OFFSET + SPEC_HEADER_BYTES);
  return head;
}

/** A status and its number: the higher, the newer. */
export interface NumberedStatus {
  readonly sequence: bigint;
  readonly status: VmStatus;
}

/** The newest valid status of the two slots in `region`, undefined when the guest has written none. */
export function decodeStatusRegion(region: Buffer): NumberedStatus | undefined {
  const slots = [region.subarray(0, BLOCK_BYTES), region.subarray(BLOCK_BYTES, STATUS_BYTES)];
  return slots
    .map(decodeStatusSlot)
    .reduce(
      (best, slot) => (slot !== undefined && slot.sequence > (best?.sequence ?? 0n) ? slot : best),
      undefined,
    );
}

function decodeStatusSlot(slot: Buffer): NumberedStatus | undefined {
  if (slot.length < BLOCK_BYTES) return undefined;
  const length = slot.readUInt32LE(8);
  if (length > BLOCK_BYTES - SLOT_HEADER_BYTES) return undefined;
  const message = slot.subarray(SLOT_HEADER_BYTES, SLOT_HEADER_BYTES + length);
  if (crc32c(message, crc32c(slot.subarray(0, 12))) !== slot.readUInt32LE(12)) return undefined;
  try {
    // The table of fields is made from the very file that the type is made from.
    const status = decodeMessage(CONTROL_MESSAGES, "VmStatus", message) as unknown as VmStatus;
    return { sequence: slot.readBigUInt64LE(0), status: bounded(status) };
  } catch {
    return undefined; // whole, yet no message: a guest's own doing
  }
}

/** Takes out of a claim what no honest guest says: numbers out of range, control characters. */
function bounded(status: VmStatus): VmStatus {
  status.error = printable(status.error);
  if (status.exit !== undefined) {
    status.exit.code = Math.min(status.exit.code, 255);
    status.exit.signal = status.exit.signal > 64 ? 0 : status.exit.signal;
  }
  for (const result of status.health?.log ?? []) result.output = printable(result.output);
  return status;
}

/** Positions in the stream of all bytes ever written to the ring. */
export interface RingHeader {
  readonly head: number;
  readonly tail: number;
}

/** Decodes the ring's header; undefined when it is empty, torn or makes no sense. */
export function decodeRingHeader(block: Buffer, ringBytes: number): RingHeader | undefined {
  if (block.length < 20 || crc32c(block.subarray(0, 16)) !== block.readUInt32LE(16)) return undefined;
  const head = Number(block.readBigUInt64LE(0));
  const tail = Number(block.readBigUInt64LE(8));
  if (!Number.isSafeInteger(head) || tail > head || head - tail > ringBytes) return undefined;
  return { head, tail };
}

/** One piece of output, as the guest's kernel handed it over. */
export interface OutputRecord {
  readonly stream: "stdout" | "stderr";
  readonly timeUnixNs: bigint;
  readonly data: Uint8Array;
}

const STREAMS = { 1: "stdout", 2: "stderr" } as const;

/**
 * Decodes the record at the start of `bytes`: the record and its length with header, `"incomplete"` when
 * `bytes` ends within it, `"invalid"` when this is no record.
 */
export function decodeRecord(
  bytes: Buffer,
): { record: OutputRecord; length: number } | "incomplete" | "invalid" {
  if (bytes.length < RECORD_HEADER_BYTES) return "incomplete";
  const payloadBytes = bytes.readUInt32LE(0);
  const kind = bytes.readUInt32LE(4);
  if (payloadBytes < 1 || payloadBytes > MAX_PAYLOAD_BYTES || (kind !== 1 && kind !== 2)) return "invalid";
  const length = RECORD_HEADER_BYTES + payloadBytes;
  if (bytes.length < length) return "incomplete";
  const data = bytes.subarray(RECORD_HEADER_BYTES, length);
  if (crc32c(data, crc32c(bytes.subarray(0, 16))) !== bytes.readUInt32LE(16)) return "invalid";
  return { record: { stream: STREAMS[kind], timeUnixNs: bytes.readBigInt64LE(8), data }, length };
}
