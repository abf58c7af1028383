import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Handler } from "../../registry.test-helper.ts";
import type { TestAuthority, TestCertificate } from "./certificates.test-helper.ts";

/** Listens on a free port of the loopback. */
export async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // A TCP server's address.
  return (server.address() as AddressInfo).port;
}

/** An HTTP proxy for which every name leads to this machine, to the port that was asked for. */
export class TestProxy implements AsyncDisposable {
  readonly server: http.Server;
  readonly asked: { line: string; authorization: string | undefined }[] = [];
  readonly #sockets = new Set<Duplex>();
  port = 0;
  /** Answer to CONNECT. */
  status = 200;

  private constructor() {
    this.server = http.createServer((request, response) => {
      this.#note(request);
      if (this.status !== 200) {
        response.writeHead(this.status).end();
        return;
      }
      const url = new URL(request.url ?? "");
      const { "proxy-authorization": _, ...headers } = request.headers;
      const onward = http.request({ port: url.port, path: `${url.pathname}${url.search}`, headers });
      onward.once("response", (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      });
      onward.once("error", () => response.destroy());
      onward.end();
    });
    this.server.on("connect", (request, client) => {
      this.#note(request);
      this.#sockets.add(client);
      client.on("error", () => {});
      if (this.status !== 200) {
        client.end(`HTTP/1.1 ${this.status} No\r\n\r\n`);
        return;
      }
      const onward = connect(Number(request.url?.split(":").at(-1)), "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connected\r\n\r\n");
        onward.pipe(client).pipe(onward);
      });
      onward.on("error", () => client.destroy());
    });
  }

  static async start(): Promise<TestProxy> {
    const proxy = new TestProxy();
    proxy.port = await listen(proxy.server);
    return proxy;
  }

  #note(request: http.IncomingMessage): void {
    const authorization = request.headers["proxy-authorization"];
    this.asked.push({ line: `${request.method} ${request.url}`, authorization });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }
}

/** A SOCKS 5 proxy likewise; with a login it wants that. */
export class TestSocks implements AsyncDisposable {
  readonly server: Server;
  readonly asked: string[] = [];
  readonly #sockets = new Set<Duplex>();
  port = 0;
  reply = 0;

  private constructor(login: string | undefined) {
    this.server = createServer((client) => {
      this.#sockets.add(client);
      client.on("error", () => {});
      this.#serve(client, login).catch(() => client.destroy());
    });
  }

  static async start(login?: string): Promise<TestSocks> {
    const socks = new TestSocks(login);
    socks.port = await listen(socks.server);
    return socks;
  }

  async #serve(client: Duplex, login: string | undefined): Promise<void> {
    const take = async (): Promise<Buffer> => ((await once(client, "data")) as [Buffer])[0];
    const greeting = await take();
    const method = login === undefined ? 0 : 2;
    if (!greeting.subarray(2).includes(method)) {
      client.end(Buffer.from([5, 0xff]));
      return;
    }
    // Byte by byte: an answer may come in any pieces.
    client.write(Buffer.from([5]));
    setTimeout(() => client.write(Buffer.from([method])), 5);
    if (login !== undefined) {
      const said = await take();
      const name = said.subarray(2, 2 + (said[1] ?? 0)).toString();
      const password = said.subarray(3 + (said[1] ?? 0)).toString();
      client.write(Buffer.from([1, `${name}:${password}` === login ? 0 : 1]));
    }
    const request = await take();
    const isName = request[3] === 3;
    const host = isName
      ? request.subarray(5, 5 + (request[4] ?? 0)).toString()
      : request.subarray(4, -2).toString("hex");
    const port = request.readUInt16BE(request.length - 2);
    this.asked.push(`${host}:${port}`);
    if (this.reply !== 0) {
      client.end(Buffer.from([5, this.reply, 0, 1, 0, 0, 0, 0, 0, 0]));
      return;
    }
    const onward = connect(port, "127.0.0.1", () => {
      client.write(Buffer.from([5, 0, 0, 3, 3, 97, 98, 99, 0, 80]));
      onward.pipe(client).pipe(onward);
    });
    onward.on("error", () => client.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.server.close();
    await once(this.server, "close");
  }
}

/** A registry in TLS. */
export class SecureServer implements AsyncDisposable {
  readonly #server: https.Server;
  readonly port: number;
  readonly requests: string[] = [];
  readonly clients: (string | undefined)[] = [];

  private constructor(server: https.Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(
    certificate: TestCertificate,
    options: { handler: Handler; clientAuthority?: TestAuthority },
  ): Promise<SecureServer> {
    const { handler, clientAuthority } = options;
    const server = https.createServer({
      cert: await readFile(certificate.certificate),
      key: await readFile(certificate.key),
      ...(clientAuthority === undefined
        ? {}
        : { requestCert: true, rejectUnauthorized: false, ca: await readFile(clientAuthority.certificate) }),
    });
    const instance = new SecureServer(server, await listen(server));
    server.on("request", (request, response) => {
      instance.requests.push(request.url ?? "");
      // An https server's sockets are these.
      const socket = request.socket as TLSSocket;
      const name: unknown = socket.getPeerCertificate().subject?.CN;
      instance.clients.push(typeof name === "string" ? name : undefined);
      Promise.resolve(handler(request, response)).catch(() => response.destroy());
    });
    return instance;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
