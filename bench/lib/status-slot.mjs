import { create, toBinary } from "@bufbuild/protobuf";
import { crc32c } from "../../dist/core/crc32c.js";
import { Phase, VmStatusSchema } from "../../dist/guest/gen/firectl/agent/v1/control_pb.js";

/** A slot of the control drive's status, as docs/control-drive.md draws it, of a process that ran and ended well. */
export function endedStatusSlot() {
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  const message = toBinary(
    VmStatusSchema,
    create(VmStatusSchema, {
      phase: Phase.EXITED,
      startedAtUnixNs: nowNs,
      finishedAtUnixNs: nowNs,
      exit: { code: 0 },
    }),
  );
  const slot = Buffer.alloc(16 + message.length);
  slot.writeBigUInt64LE(1n, 0);
  slot.writeUInt32LE(message.length, 8);
  slot.set(message, 16);
  slot.writeUInt32LE(crc32c(message, crc32c(slot.subarray(0, 12))), 12);
  return slot;
}
