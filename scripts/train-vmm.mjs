// Answers Firecracker's API and runs nothing; at InstanceStart it says on the control drive what a guest would whose
// process wrote a word and ended, and ends itself. For train-starts.mjs.
import { closeSync, openSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { crc32c } from "../dist/core/crc32c.js";
import { CONTROL_MESSAGES, Phase } from "../dist/guest/gen/firectl/agent/v1/control_fields.js";
import { encodeMessage } from "../dist/guest/wire.js";

const STATUS_OFFSET = 4096;

if (process.argv.includes("--version")) {
  console.log("Firecracker v1.17.0");
  process.exit();
}

let drive;
createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  if (request.url === "/drives/control") drive = JSON.parse(text).path_on_host;
  const isStart = request.url === "/actions";
  if (request.method === "GET") response.end(JSON.stringify({ firecracker_version: "1.17.0" }));
  else response.writeHead(204).end();
  if (isStart) response.on("close", endAsGuest);
}).listen(process.argv[process.argv.indexOf("--api-sock") + 1]);

function endAsGuest() {
  const descriptor = openSync(drive, "r+");
  const message = encodeMessage(CONTROL_MESSAGES, "VmStatus", { phase: Phase.EXITED, exit: { code: 0 } });
  const slot = Buffer.alloc(16 + message.length);
  slot.writeBigUInt64LE(1n, 0);
  slot.writeUInt32LE(message.length, 8);
  slot.set(message, 16);
  slot.writeUInt32LE(crc32c(message, crc32c(slot.subarray(0, 12))), 12);
  writeSync(descriptor, slot, 0, slot.length, STATUS_OFFSET);
  closeSync(descriptor);
  process.exit();
}
