import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { streamProgram } from "../host/process.ts";
import type { Blob, TemporaryDirectory, TestImage } from "./image.test-helper.ts";

export interface RealRegistryOptions {
  /** The `auth:` section of its configuration, in YAML flow style. */
  readonly auth?: string;
  /** Its `http.tls` section likewise. */
  readonly tls?: string;
  /** Directory of another registry, to serve what that has. */
  readonly root?: string;
}

/** Debian's docker-registry on a free port of the loopback. */
export class RealRegistry implements AsyncDisposable {
  readonly host: string;
  /** Its directory, which another one may serve too. */
  readonly root: string;
  readonly #stop: () => Promise<void>;

  private constructor(host: string, root: string, stop: () => Promise<void>) {
    this.host = host;
    this.root = root;
    this.#stop = stop;
  }

  static async start(
    directory: TemporaryDirectory,
    options: RealRegistryOptions = {},
  ): Promise<RealRegistry> {
    const port = await freePort();
    const root = options.root ?? directory.join(`registry-${port}`);
    await mkdir(root, { recursive: true });
    const file = directory.join(`registry-${port}.yml`);
    const tls = options.tls === undefined ? "" : `, tls: ${options.tls}`;
    const auth = options.auth === undefined ? "" : `auth: ${options.auth}\n`;
    await writeFile(
      file,
      `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${root}}}\nhttp: {addr: "127.0.0.1:${port}"${tls}}\n${auth}`,
    );
    const controller = new AbortController();
    const program = streamProgram("docker-registry", ["serve", file], { signal: controller.signal });
    program.stdout.resume();
    const registry = new RealRegistry(`127.0.0.1:${port}`, root, async () => {
      controller.abort();
      await program.finished.catch(() => {});
    });
    await Promise.race([registry.#answers(), program.finished]);
    return registry;
  }

  async #answers(): Promise<void> {
    for (let count = 0; count < 500; count++) {
      if (await listens(this.host)) return;
      await sleep(20);
    }
    throw new Error("docker-registry does not answer");
  }

  /** Pushes an image, and further manifests such as indexes, under a name and tag. */
  async push(
    image: TestImage,
    target: { name: string; tag?: string; authorization?: string },
  ): Promise<void> {
    for (const part of [...image.layers, image.config]) await this.pushBlob(part, target);
    await this.pushManifest(image.manifest, target);
  }

  async pushBlob(part: Blob, target: { name: string; authorization?: string }): Promise<void> {
    const headers = authorizationHeader(target);
    const start = await fetch(`http://${this.host}/v2/${target.name}/blobs/uploads/`, {
      method: "POST",
      headers,
    });
    const location = start.headers.get("location");
    if (location === null) throw new Error(`no upload at ${start.status}`);
    const url = new URL(location, `http://${this.host}`);
    url.searchParams.set("digest", part.digest);
    const put = await fetch(url, { method: "PUT", body: new Uint8Array(part.bytes), headers });
    if (put.status !== 201) throw new Error(`push: ${put.status} ${await put.text()}`);
  }

  async pushManifest(
    manifest: Blob,
    target: { name: string; tag?: string; authorization?: string },
  ): Promise<void> {
    const url = `http://${this.host}/v2/${target.name}/manifests/${target.tag ?? manifest.digest}`;
    const put = await fetch(url, {
      method: "PUT",
      body: new Uint8Array(manifest.bytes),
      headers: { ...authorizationHeader(target), "content-type": manifest.mediaType },
    });
    if (put.status !== 201) throw new Error(`push: ${put.status} ${await put.text()}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stop();
  }
}

function authorizationHeader(target: { authorization?: string }): Record<string, string> {
  return target.authorization === undefined ? {} : { authorization: target.authorization };
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** An HTTP server of the test's own, which remembers what it was asked. */
export class TestServer implements AsyncDisposable {
  readonly requests: {
    method: string;
    url: string;
    authorization: string | undefined;
    range: string | undefined;
  }[] = [];
  readonly #server: http.Server;

  private constructor(server: http.Server) {
    this.#server = server;
  }

  static async start(handler: Handler): Promise<TestServer> {
    const server = http.createServer();
    const instance = new TestServer(server);
    server.on("request", (request, response) => {
      const { authorization, range } = request.headers;
      instance.requests.push({ method: request.method ?? "", url: request.url ?? "", authorization, range });
      Promise.resolve(handler(request, response)).catch(() => response.destroy());
    });
    // A greeting in TLS is answered as Go's servers do: with an error in plain text.
    server.on("clientError", (_error, socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return instance;
  }

  get host(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("it listens on a port");
    return `127.0.0.1:${address.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** A TCP proxy that cuts its connections after a number of bytes towards the client that `nextCut` tells. */
export class CuttingProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  cuts = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(target: string, nextCut: () => number | undefined): Promise<CuttingProxy> {
    const server = createServer();
    const proxy = new CuttingProxy(server);
    server.on("connection", (client) =>
      proxy.#join(client, connect(Number(target.split(":")[1]), "127.0.0.1"), nextCut()),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get host(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("it listens on a port");
    return `127.0.0.1:${address.port}`;
  }

  #join(client: Socket, upstream: Socket, cutAfter: number | undefined): void {
    let rest = cutAfter ?? Number.POSITIVE_INFINITY;
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream);
    upstream.on("data", (chunk: Buffer) => {
      client.write(chunk.subarray(0, Math.max(0, rest)));
      rest -= chunk.length;
      if (rest > 0) return;
      this.cuts += 1;
      // The end of what was written still goes out; then the connection is gone.
      client.destroySoon();
      upstream.destroy();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** Serves one image as a registry would; `tamper` may answer instead. */
export function serveImage(
  parts: { root: Blob; manifests?: readonly Blob[]; blobs: readonly Blob[] },
  tamper: (request: IncomingMessage, response: ServerResponse) => boolean = () => false,
): Handler {
  const byDigest = new Map(
    [...parts.blobs, parts.root, ...(parts.manifests ?? [])].map((part) => [part.digest, part]),
  );
  return (request, response) => {
    if (tamper(request, response)) return;
    const url = request.url ?? "";
    if (url === "/v2/") {
      response.end("{}");
      return;
    }
    const [, kind, name] = /^\/v2\/.+\/(manifests|blobs)\/([^/]+)$/.exec(url) ?? [];
    // A tag is any name that is not a digest of something here.
    const part =
      [...byDigest].find(([digest]) => digest === name)?.[1] ??
      (kind === "manifests" ? parts.root : undefined);
    if (part === undefined) {
      response.writeHead(404).end('{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}');
      return;
    }
    sendPart(request, response, part);
  };
}

/** Sends a blob, or the part of it that a Range header asks for. */
export function sendPart(request: IncomingMessage, response: ServerResponse, part: Blob): void {
  const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const body = part.bytes.subarray(start);
  response.writeHead(start > 0 ? 206 : 200, {
    "content-type": part.mediaType,
    "content-length": body.length,
    "docker-content-digest": part.digest,
    ...(start > 0 ? { "content-range": `bytes ${start}-${part.size - 1}/${part.size}` } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

function listens(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(host.split(":")[1]), "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("it listened on a port");
  return address.port;
}
