import { createServer, type RequestListener, type Server } from "node:http";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { HttpOverUds } from "./http-over-uds.ts";
import { temporaryDirectory } from "./temporary-directory.test-helper.ts";

const socketPath = path.join(temporaryDirectory(), "s");
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<Server> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => {
    server.listen(socketPath, resolve);
  });
  return server;
}

const get = { method: "GET", path: "/version", timeoutMs: 5000 } as const;

test("sends JSON, reads JSON, and keeps one connection", async () => {
  const seen: unknown[] = [];
  let connections = 0;
  const server = await serve((request, response) => {
    let text = "";
    request.on("data", (data) => {
      text += String(data);
    });
    request.on("end", () => {
      seen.push([request.method, request.url, request.headers["content-type"], text]);
      if (request.method === "PUT") response.writeHead(204).end();
      else response.end('{"firecracker_version":"1.17.0"}');
    });
  });
  server.on("connection", () => {
    connections++;
  });
  const client = new HttpOverUds(socketPath);
  const put = { method: "PUT", path: "/vsock", body: { guest_cid: 3, text: "é" }, timeoutMs: 5000 } as const;
  expect(await client.request(put)).toEqual({ status: 204, body: undefined });
  expect(await client.request(get)).toEqual({ status: 200, body: { firecracker_version: "1.17.0" } });
  client.close();
  expect(connections).toBe(1);
  expect(seen).toEqual([
    ["PUT", "/vsock", "application/json", '{"guest_cid":3,"text":"é"}'],
    ["GET", "/version", undefined, ""],
  ]);
});

test.each<[string, RequestListener, object]>([
  ["no JSON", (_request, response) => response.end("<html>"), { code: "IO_FAILED" }],
  [
    "a reply that announces too much",
    (_request, response) => response.writeHead(200, { "Content-Length": 2 ** 31 }).write("x"),
    {
      code: "IO_FAILED",
      message: expect.stringContaining("its length is 2147483648; 1048576 bytes are the most"),
    },
  ],
  [
    "a peer that speaks something else",
    (request) => request.socket.write("220 smtp ready\r\n\r\n"),
    { code: "IO_FAILED" },
  ],
  [
    "a reply without end",
    (_request, response) => {
      const chunk = Buffer.alloc(256 * 1024, "x");
      const more = (): void => {
        if (!response.destroyed) response.write(chunk, more);
      };
      more();
    },
    { code: "IO_FAILED", message: expect.stringContaining("it is longer than 1048576 bytes") },
  ],
  ["a closed connection", (request) => request.socket.destroy(), { code: "ECONNRESET" }],
])("%s is an error", async (_name, listener, error) => {
  await serve(listener);
  const client = new HttpOverUds(socketPath);
  await expect(client.request(get)).rejects.toMatchObject(error);
  client.close();
});

test("finds the connection that the server has closed, and makes another", async () => {
  let connections = 0;
  const server = await serve((_request, response) => response.setHeader("Connection", "close").end("{}"));
  server.on("connection", () => {
    connections++;
  });
  const client = new HttpOverUds(socketPath);
  for (let i = 0; i < 3; i++) expect(await client.request(get)).toEqual({ status: 200, body: {} });
  client.close();
  expect(connections).toBe(3);
});

test("silence ends at the deadline, and at the caller's word", async () => {
  await serve(() => {});
  const client = new HttpOverUds(socketPath);
  await expect(client.request({ ...get, timeoutMs: 50 })).rejects.toMatchObject({
    code: "TIMEOUT",
    message: "timed out after 0.05 s waiting for the answer to GET /version",
  });
  const reason = new Error("enough");
  const controller = new AbortController();
  const request = client.request({ ...get, signal: controller.signal });
  controller.abort(reason);
  await expect(request).rejects.toBe(reason);
  client.close();
});

test("a socket that is not there rejects with the system's error", async () => {
  const client = new HttpOverUds(`${socketPath}-none`);
  await expect(client.request(get)).rejects.toMatchObject({ code: "ENOENT" });
});
