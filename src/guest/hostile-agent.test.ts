import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { GuestClient } from "./client.ts";

/** RFC 9113, section 4.1: length in 24 bits, type, flags, stream. */
function frame(type: number, options: { flags?: number; stream?: number; payload?: Buffer } = {}): Buffer {
  const { flags = 0, stream = 0, payload = Buffer.alloc(0) } = options;
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

const [HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, WINDOW_UPDATE] = [1, 3, 4, 5, 7, 8];
const ACK = 1;
const END_HEADERS = 4;
const HELLO = Buffer.concat([frame(SETTINGS), frame(SETTINGS, { flags: ACK })]);
/** `:status: 200` of HPACK's static table. */
const STATUS_200 = Buffer.from([0x88]);

function goaway(code: number): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(code, 4);
  return Buffer.concat([HELLO, frame(GOAWAY, { payload })]);
}

const ANSWERS: Readonly<Record<string, Buffer>> = {
  "bytes that are no HTTP/2": Buffer.from("HTTP/1.1 400 No\r\n"),
  "a frame longer than it may be": Buffer.concat([HELLO, Buffer.alloc(40, 0xff)]),
  "a WINDOW_UPDATE beyond the largest window": Buffer.concat([
    HELLO,
    frame(WINDOW_UPDATE, { payload: Buffer.from([0x7f, 0xff, 0xff, 0xff]) }),
  ]),
  "a PUSH_PROMISE, which we have forbidden": Buffer.concat([
    HELLO,
    frame(PUSH_PROMISE, {
      flags: END_HEADERS,
      stream: 1,
      payload: Buffer.concat([Buffer.from([0, 0, 0, 2]), STATUS_200]),
    }),
  ]),
  "SETTINGS with a window that is too large": frame(SETTINGS, {
    payload: Buffer.from([0, 4, 0xff, 0xff, 0xff, 0xff]),
  }),
  "headers that are no HPACK": Buffer.concat([
    HELLO,
    frame(HEADERS, { flags: END_HEADERS, stream: 1, payload: Buffer.alloc(20, 0xff) }),
  ]),
  "a GOAWAY for an error": goaway(11),
  "a reset of the call": Buffer.concat([
    HELLO,
    frame(RST_STREAM, { stream: 1, payload: Buffer.from([0, 0, 0, 2]) }),
  ]),
};

let directory: string;
let server: Server;
let peers: Socket[];
let client: GuestClient;
let answer: Buffer;
let uncaught: unknown[];
/** Some Nodes wait for the rest of what others refuse at once. */
const FAILURE = { code: expect.stringMatching(/^(AGENT_UNREACHABLE|AGENT_FAILED|TIMEOUT)$/) };
const note = (error: unknown): void => void uncaught.push(error);

beforeEach(async () => {
  directory = temporaryDirectory();
  uncaught = [];
  process.on("uncaughtException", note);
  peers = [];
  server = createServer((peer) => {
    peers.push(peer);
    peer.on("error", () => {});
    peer.once("data", () => peer.write(answer));
    peer.resume();
  });
  server.listen(path.join(directory, "agent.sock"));
  await once(server, "listening");
  client = new GuestClient(async () => {
    const socket = connect(path.join(directory, "agent.sock"));
    await once(socket, "connect");
    return socket;
  });
});

afterEach(async () => {
  client.close();
  for (const peer of peers) peer.destroy();
  server.close();
  await turn();
  process.off("uncaughtException", note);
});

/** Resolves once our end of every connection is closed and what that brings about has happened. */
async function closed(): Promise<void> {
  for (const peer of peers) {
    // Not events.once, which fails by the reset that some of them meet.
    if (!peer.closed) await new Promise<void>((resolve) => peer.once("close", () => resolve()));
  }
  for (let i = 0; i < 10; i++) await turn();
}

describe.each(Object.entries(ANSWERS))("an agent that answers with %s", (_, bytes) => {
  beforeEach(() => {
    answer = bytes;
  });

  test("fails the call and nothing else, when the client is closed right after it", async () => {
    await expect(client.stats({ timeoutMs: 300 })).rejects.toMatchObject(FAILURE);
    client.close();
    await closed();
    expect(uncaught).toEqual([]);
  });

  test("fails the call and nothing else, when the client is closed during it", async () => {
    const failing = expect(client.stats({ timeoutMs: 300 })).rejects.toMatchObject(FAILURE);
    await expect.poll(() => peers[0]?.bytesWritten, { interval: 1 }).toBe(bytes.length);
    client.close();
    await failing;
    await closed();
    expect(uncaught).toEqual([]);
  });
});

test("an agent that says goodbye while nobody calls is asked again over a new connection", async () => {
  answer = Buffer.concat([HELLO, frame(RST_STREAM, { stream: 1, payload: Buffer.from([0, 0, 0, 2]) })]);
  await expect(client.stats()).rejects.toThrow();
  peers[0]?.write(goaway(0));
  await closed();
  await expect(client.stats()).rejects.toThrow();
  expect(peers).toHaveLength(2);
});
