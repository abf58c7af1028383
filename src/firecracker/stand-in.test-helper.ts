import { chmodSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";

/**
 * How the stand-in behaves: the reply to `refuse` is a fault, it exits at `dieAt`, it answers nothing at
 * `hangAt`; its guest says that it is ready for a snapshot unless it is `neverReady`; after InstanceStart it writes `consoleText` and, when `exitAfterMs` is set, ends with `exitStatus`.
 */
export interface Behaviour {
  readonly refuse?: string;
  readonly dieAt?: string;
  readonly hangAt?: string;
  readonly neverReady?: boolean;
  readonly consoleText?: string;
  readonly exitAfterMs?: number;
  readonly exitStatus?: number;
}

const SOURCE = `
const http = require("node:http");
const fs = require("node:fs");
const net = require("node:net");
const behaviour = BEHAVIOUR;
if (process.argv.includes("--version")) {
  console.log("Firecracker v1.17.0");
  process.exit(0);
}
const socket = process.argv[process.argv.indexOf("--api-sock") + 1];
const record = process.argv[1] + ".calls";
let serial, vsock, readyPort;
http.createServer((request, response) => {
  let body = "";
  request.on("data", (data) => { body += data; });
  request.on("end", () => {
    const name = request.method + " " + request.url;
    fs.appendFileSync(record, name + " " + body + "\\n");
    if (behaviour.dieAt === name) { console.error("thread 'main' panicked"); process.exit(1); }
    if (behaviour.hangAt === name) return;
    if (behaviour.refuse === name) {
      response.writeHead(400).end(JSON.stringify({ fault_message: "it cannot be done" }));
      return;
    }
    if (request.method === "GET") { response.end('{"firecracker_version":"1.17.0"}'); return; }
    if (request.url === "/serial") serial = JSON.parse(body).serial_out_path;
    if (request.url === "/vsock") vsock = JSON.parse(body).uds_path;
    if (request.url === "/boot-source") readyPort = /firectl.snapshot=(\\d+)/.exec(body)?.[1];
    if (request.url === "/snapshot/create") {
      fs.writeFileSync(JSON.parse(body).mem_file_path, "memory");
      fs.writeFileSync(JSON.parse(body).snapshot_path, "state");
    }
    response.writeHead(204).end();
    if (body.includes("InstanceStart") && readyPort !== undefined && behaviour.neverReady !== true) {
      const guest = net.connect(vsock + "_" + readyPort, () => guest.write("r"));
      guest.on("error", () => {});
    }
    if (!body.includes("InstanceStart")) return;
    if (serial !== undefined) fs.writeFileSync(serial, behaviour.consoleText ?? "");
    else process.stdout.write(behaviour.consoleText ?? "");
    if (behaviour.exitAfterMs !== undefined) setTimeout(() => process.exit(behaviour.exitStatus ?? 0), behaviour.exitAfterMs);
  });
}).listen(socket);
`;

/** Path of a program that speaks as much of Firecracker's API as firectl uses; its calls are in `<path>.calls`. */
export function standIn(behaviour: Behaviour = {}): string {
  const file = path.join(temporaryDirectory(), "firecracker");
  const source = SOURCE.replace("BEHAVIOUR", JSON.stringify(behaviour));
  writeFileSync(file, `#!${process.execPath}\n${source}`);
  chmodSync(file, 0o755);
  return file;
}
