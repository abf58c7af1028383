import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { QmpClosedError, runQmp } from "./qmp.ts";

const socketPath = path.join(temporaryDirectory(), "s");
const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\r\n';
let server: Server | undefined;
afterEach(() => {
  server?.close();
});

async function serve(onConnection: (socket: Socket) => void): Promise<void> {
  server = createServer(onConnection);
  await new Promise<void>((resolve) => {
    server?.listen(socketPath, resolve);
  });
}

/** Greets, then answers each command by `replies`. */
function conversation(replies: Readonly<Record<string, string>>): (socket: Socket) => void {
  return (socket) => {
    socket.on("error", () => {});
    socket.write(GREETING);
    socket.on("data", (data) => {
      const { execute } = JSON.parse(String(data));
      socket.write(replies[execute] ?? '{"return": {}}\r\n');
    });
  };
}

test("negotiates, skips events, returns results in order", async () => {
  await serve(
    conversation({
      "query-status": '{"event": "RESUME", "timestamp": {}}\r\n{"return": {"running": true}}\r\n',
      "query-name": '{"return": {"name": "x"}}\r\n',
    }),
  );
  const results = await runQmp(socketPath, ["query-status", "query-name"], { timeoutMs: 5000 });
  expect(results).toEqual([{ running: true }, { name: "x" }]);
});

test("a refusal names the command", async () => {
  await serve(conversation({ cont: '{"error": {"class": "GenericError", "desc": "no"}}\r\n' }));
  await expect(runQmp(socketPath, ["cont"], { timeoutMs: 5000 })).rejects.toMatchObject({
    code: "VMM_REFUSED",
    message: "QEMU refused cont: no",
  });
});

test.each([
  ["no greeting", "{}\r\n", /did not greet/],
  ["no JSON", "hello\r\n", /not a QMP message: hello/],
  ["a number", "7\r\n", /not a QMP message/],
  ["a line without end", "x".repeat(70_000), /not a line/],
])("%s is refused", async (_name, bytes, message) => {
  await serve((socket) => {
    socket.on("error", () => {});
    socket.write(bytes);
  });
  await expect(runQmp(socketPath, [], { timeoutMs: 5000 })).rejects.toThrow(message);
});

test("a peer that goes away or stays silent is told apart", async () => {
  await serve((socket) => socket.end());
  await expect(runQmp(socketPath, [], { timeoutMs: 5000 })).rejects.toBeInstanceOf(QmpClosedError);
  server?.close();
  await serve((socket) => {
    socket.write(GREETING);
    socket.once("data", () => socket.destroy());
  });
  await expect(runQmp(socketPath, [], { timeoutMs: 5000 })).rejects.toBeInstanceOf(QmpClosedError);
  server?.close();
  await serve((socket) => socket.on("error", () => {}));
  await expect(runQmp(socketPath, [], { timeoutMs: 50 })).rejects.toMatchObject({ code: "TIMEOUT" });
});

test("a socket that nobody serves rejects with the system's error", async () => {
  await expect(runQmp(`${socketPath}-none`, [], { timeoutMs: 50 })).rejects.toMatchObject({ code: "ENOENT" });
});
