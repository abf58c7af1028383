import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { collect, makeImage } from "../../image.test-helper.ts";
import { serveImage, TestServer } from "../../registry.test-helper.ts";
import { RegistryClient } from "./client.ts";
import type { Network } from "./connections.ts";
import { proxiesOf } from "./proxy.ts";
import { listen } from "./servers.test-helper.ts";

const image = makeImage();
const serve = serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] });

/** Takes connections and says nothing, ever, or the same to everything. */
class SilentServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  port = 0;
  connections = 0;

  private constructor(answer: string) {
    this.#server = createServer((socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => this.#sockets.delete(socket));
      socket.on("data", () => socket.write(answer));
    });
  }

  static async start(answer = ""): Promise<SilentServer> {
    const silent = new SilentServer(answer);
    silent.port = await listen(silent.#server);
    return silent;
  }

  get open(): number {
    return this.#sockets.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

function clientOf(
  domain: string,
  options: {
    env?: NodeJS.ProcessEnv;
    protocol?: "https:" | "http:";
    attempts?: number;
    timeoutMs?: number;
  } = {},
): RegistryClient {
  const network: Network = {
    isInsecure: () => options.protocol === "http:",
    proxyFor: proxiesOf(options.env ?? {}),
    certificatesFor: () => undefined,
    allAuthorities: async () => [],
  };
  return new RegistryClient({
    domain,
    path: "a",
    protocol: options.protocol ?? "https:",
    network,
    tokenServers: [],
    findCredentials: async () => ({ credentials: undefined, problem: undefined }),
    onRetry: () => {},
    attempts: options.attempts ?? 1,
    firstDelayMs: 1,
    headTimeoutMs: options.timeoutMs ?? 500,
    idleTimeoutMs: options.timeoutMs ?? 500,
  });
}

// A pattern alone would match any message: vitest compares it as an object without fields.
const unreachable = (message: RegExp): object => ({
  code: "REGISTRY_UNREACHABLE",
  message: expect.stringMatching(message),
});

describe("the wait has an end", () => {
  it.each([
    ["in TLS", "https:"],
    ["in plain HTTP", "http:"],
  ] as const)("for a registry that says nothing %s, each time", async (_name, protocol) => {
    await using silent = await SilentServer.start();
    using client = clientOf(`127.0.0.1:${silent.port}`, { protocol, attempts: 2 });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(unreachable(/no answer/));
    expect(silent.connections).toBe(2);
  });

  it.each(["http", "https", "socks5"])("for an %s proxy that says nothing", async (kind) => {
    await using silent = await SilentServer.start();
    using client = clientOf("registry.test:5000", {
      env: { ALL_PROXY: `${kind}://127.0.0.1:${silent.port}` },
    });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      unreachable(/registry\.test:5000.*(no answer|the proxy does not answer)/),
    );
  });

  it("for a token server that says nothing", async () => {
    await using silent = await SilentServer.start();
    const challenge = `Bearer realm="http://127.0.0.1:${silent.port}/token"`;
    await using server = await TestServer.start((_request, response) => {
      response.writeHead(401, { "www-authenticate": challenge }).end();
    });
    using client = clientOf(server.host, { protocol: "http:" });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      unreachable(new RegExp(`127.0.0.1:${silent.port}: no answer`)),
    );
  });

  it("for a body that falls silent", async () => {
    await using server = await TestServer.start((request, response) => {
      if (request.url === "/v2/") response.end();
      else response.writeHead(200, { "content-length": 500 }).write("{");
    });
    using client = clientOf(server.host, { protocol: "http:" });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      unreachable(/nothing came for 0.5 s/),
    );
    const blob = { digest: image.config.digest, size: 500 };
    await expect(collect(client.getBlob(blob, { offset: 0, signal: undefined }))).rejects.toMatchObject(
      unreachable(/nothing came/),
    );
  });

  it("for a manifest that comes a byte at a time", async () => {
    await using server = await TestServer.start(async (request, response) => {
      if (request.url === "/v2/") return void response.end();
      while (!response.destroyed) {
        response.write(" ");
        await sleep(20);
      }
    });
    using client = clientOf(server.host, { protocol: "http:" });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      unreachable(/the manifest of .* did not come within 2 s/),
    );
  });

  it("for an answer without end that nobody wants", async () => {
    let sent = 0;
    const endless = function* (): Generator<Buffer> {
      for (;;) {
        sent += 64 * 1024;
        yield Buffer.alloc(64 * 1024);
      }
    };
    await using server = await TestServer.start((request, response) => {
      if (request.url !== "/v2/") return serve(request, response);
      Readable.from(endless())
        .on("error", () => {})
        .pipe(response);
    });
    using client = clientOf(server.host, { protocol: "http:", timeoutMs: 10_000 });
    expect((await client.getManifest("1", undefined)).bytes).toEqual(image.manifest.bytes);
    expect(sent).toBeLessThan(50_000_000);
  });
});

describe("a change of protocol that nobody asked for is refused", () => {
  const SWITCHES = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n";
  const refused = (message: RegExp): object => ({
    code: "REGISTRY_REFUSED",
    message: expect.stringMatching(message),
  });

  it.each([
    ["", SWITCHES],
    [" without a word of which", "HTTP/1.1 101 Switching Protocols\r\n\r\n"],
  ])("of a registry%s", async (_name, answer) => {
    await using switching = await SilentServer.start(answer);
    using client = clientOf(`127.0.0.1:${switching.port}`, { protocol: "http:", timeoutMs: 60_000 });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      refused(new RegExp(`^http://127\\.0\\.0\\.1:${switching.port}/v2/ answers 101`)),
    );
    await expect.poll(() => switching.open).toBe(0);
  });

  it("of a token server", async () => {
    await using switching = await SilentServer.start(SWITCHES);
    const challenge = `Bearer realm="http://127.0.0.1:${switching.port}/token"`;
    await using server = await TestServer.start((_request, response) => {
      response.writeHead(401, { "www-authenticate": challenge }).end();
    });
    using client = clientOf(server.host, { protocol: "http:", timeoutMs: 60_000 });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(refused(/\/token answers 101/));
  });

  it("of where a blob's redirect leads, whose query is kept back", async () => {
    await using switching = await SilentServer.start(SWITCHES);
    await using server = await TestServer.start((request, response) => {
      const location = `http://127.0.0.1:${switching.port}/blob?signature=s3cret`;
      if (request.url === "/v2/") response.end();
      else response.writeHead(307, { location }).end();
    });
    using client = clientOf(server.host, { protocol: "http:", timeoutMs: 60_000 });
    const blob = { digest: image.config.digest, size: 500 };
    await expect(collect(client.getBlob(blob, { offset: 0, signal: undefined }))).rejects.toMatchObject(
      refused(/\/blob answers 101/),
    );
  });

  it.each<["http:" | "https:", string, object]>([
    ["http:", "http", refused(/^http:\/\/registry\.test:5000\/v2\/ through proxy 127.* answers 101/)],
    ["https:", "http", unreachable(/proxy .* does not connect to registry\.test:5000: it answers 101/)],
  ])("of a proxy on the way to %s", async (protocol, kind, failure) => {
    await using switching = await SilentServer.start(SWITCHES);
    using client = clientOf("registry.test:5000", {
      protocol,
      env: { ALL_PROXY: `${kind}://127.0.0.1:${switching.port}` },
      timeoutMs: 60_000,
    });
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(failure);
  });
});

describe("an abort is followed at once", () => {
  it.each<["http:" | "https:", string | undefined]>([
    ["http:", undefined],
    ["https:", undefined],
    ["http:", "http"],
    ["https:", "http"],
    ["https:", "https"],
    ["https:", "socks5"],
    ["http:", "socks5"],
  ])("while %s is asked for by way of %s, which says nothing", async (protocol, kind) => {
    await using silent = await SilentServer.start();
    const address = `127.0.0.1:${silent.port}`;
    const client = clientOf(kind === undefined ? address : "registry.test:5000", {
      protocol,
      env: kind === undefined ? {} : { ALL_PROXY: `${kind}://${address}` },
      timeoutMs: 60_000,
    });
    const reason = new Error("enough");
    const controller = new AbortController();
    const asking = client.getManifest("1", controller.signal);
    await expect.poll(() => silent.open).toBe(1);
    controller.abort(reason);
    await expect(asking).rejects.toBe(reason);
    // Nothing of it outlives the client.
    client[Symbol.dispose]();
    await expect.poll(() => silent.open).toBe(0);
  });
});

describe("Retry-After", () => {
  it.each<[string, () => string]>([
    ["seconds", () => "1"],
    ["a date", () => new Date(Date.now() + 1500).toUTCString()],
  ])("in %s is waited for", async (_name, header) => {
    const pauses: number[] = [];
    let refusals = 0;
    await using server = await TestServer.start((request, response) => {
      if (request.url === "/v2/" || refusals > 0) return serve(request, response);
      refusals += 1;
      response.writeHead(429, { "retry-after": header() }).end();
    });
    using client = new RegistryClient({
      domain: server.host,
      path: "a",
      protocol: "http:",
      network: {
        isInsecure: () => true,
        proxyFor: () => undefined,
        certificatesFor: () => undefined,
        allAuthorities: async () => [],
      },
      tokenServers: [],
      findCredentials: async () => ({ credentials: undefined, problem: undefined }),
      onRetry: (_reason, delayMs) => void pauses.push(delayMs),
      firstDelayMs: 1,
    });
    await client.getManifest("1", undefined);
    expect(pauses).toHaveLength(1);
    // A date has no fractions of a second.
    expect(pauses[0]).toBeGreaterThan(400);
    expect(pauses[0]).toBeLessThanOrEqual(1500);
  });
});

describe("a registry that is not there", () => {
  it("is told of with the reason, whichever addresses its name has", async () => {
    using client = clientOf("localhost:1");
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject(
      unreachable(/cannot reach localhost:1: .*ECONNREFUSED/),
    );
  });
});
