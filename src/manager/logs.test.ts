import { mkdir, open } from "node:fs/promises";
import path from "node:path";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { crc32c } from "../core/crc32c.ts";
import { createControlDrive } from "../guest/control-drive.ts";
import { OUTPUT_OFFSET, RING_OFFSET } from "../guest/control-drive-format.ts";
import { VmSpecSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { ownIdentity } from "../host/process-identity.ts";
import type { LogsOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { addImage, addVm, freshContext } from "./images.test-helper.ts";
import { readLogs } from "./logs.ts";
import { changeRecord } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

const NS_PER_MS = 1_000_000n;
const WORKLOAD = {
  args: ["sh"],
  env: [],
  cwd: "/",
  user: "0",
  hostname: "x",
  stopSignal: 15,
  readOnly: false,
  storage: "overlay" as const,
};

/** A running VM whose VMM is this process, so that it does not end, and what it has said: text and time. */
async function talkingVm(context: Context, said: readonly (readonly [string, bigint])[]) {
  const { id } = await addVm(context, await addImage(context, "a"), { state: "running" });
  const record = await changeRecord(context.vms, id, (current) => ({
    ...current,
    process: ownIdentity(),
    workload: WORKLOAD,
  }));
  if (record === undefined) throw new Error("it was just made");
  const { controlDrive } = vmPathsOf(context.directories, id);
  await mkdir(path.dirname(controlDrive), { recursive: true });
  await createControlDrive(controlDrive, {
    spec: create(VmSpecSchema, { vmId: id }),
    outputBytes: 64 * 1024,
  });
  const ring = Buffer.concat(said.map(([text, timeUnixNs]) => recordOf(text, timeUnixNs)));
  const header = Buffer.alloc(20);
  header.writeBigUInt64LE(BigInt(ring.length), 0);
  header.writeUInt32LE(crc32c(header.subarray(0, 16)), 16);
  await using drive = await open(controlDrive, "r+");
  await drive.write(ring, 0, ring.length, RING_OFFSET);
  await drive.write(header, 0, header.length, OUTPUT_OFFSET);
  return record;
}

/** As the agent writes it, see docs/control-drive.md. */
function recordOf(text: string, timeUnixNs: bigint): Buffer {
  const payload = Buffer.from(text);
  const header = Buffer.alloc(20);
  header.writeUInt32LE(payload.length, 0);
  header[4] = 1;
  header.writeBigInt64LE(timeUnixNs, 8);
  header.writeUInt32LE(crc32c(payload, crc32c(header.subarray(0, 16))), 16);
  return Buffer.concat([header, payload]);
}

const nowNs = (offsetMs: number): bigint => BigInt(Date.now() + offsetMs) * NS_PER_MS;

// A follower that does not end lets its test run out of time: nothing here ends the VM.
test.each<[string, LogsOptions, string[]]>([
  ["has passed", { untilUnixNs: nowNs(-60_000) }, ["old"]],
  ["is to come, while the VM is silent", { untilUnixNs: nowNs(3_000) }, ["old", "new"]],
  ["is to come, and its clock is ahead", { untilUnixNs: nowNs(1_000_000) }, ["old", "new"]],
])("following until a time that %s comes to an end", async (_name, options, expected) => {
  const context = await freshContext();
  const record = await talkingVm(context, [
    ["old", nowNs(-120_000)],
    ["new", nowNs(-1_000)],
    ["ahead", nowNs(2_000_000)],
  ]);
  const seen: string[] = [];
  for await (const { data } of readLogs(context, record, { ...options, follow: true })) {
    seen.push(Buffer.from(data).toString());
  }
  expect(seen).toEqual(expected);
});
