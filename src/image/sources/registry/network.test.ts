import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasTool, makeImage, TemporaryDirectory } from "../../image.test-helper.ts";
import { serveImage, TestServer } from "../../registry.test-helper.ts";
import { TestAuthority, type TestCertificate, writeCerts } from "./certificates.test-helper.ts";
import { pull } from "./pull.test-helper.ts";
import { listen, SecureServer, TestProxy, TestSocks } from "./servers.test-helper.ts";

const image = makeImage();
const serve = serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] });

describe("plain HTTP through a proxy", () => {
  it("asks it for whole URLs, with its login", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serve);
    await using proxy = await TestProxy.start();
    const host = `registry.test:${server.host.split(":")[1]}`;
    await pull(directory, `${host}/a:1`, {
      insecure: [host],
      env: { HTTP_PROXY: `http://me:p%3Aw@127.0.0.1:${proxy.port}`, HTTPS_PROXY: `http://127.0.0.1:1` },
    });
    expect(proxy.asked[0]?.line).toBe(`GET http://${host}/v2/`);
    const expected = `Basic ${Buffer.from("me:p:w").toString("base64")}`;
    expect(new Set(proxy.asked.map(({ authorization }) => authorization))).toEqual(new Set([expected]));
    expect(server.requests.length).toBeGreaterThan(3);
  });

  it.each([
    [407, /proxy 127.0.0.1:\d+ asks for a login/],
    [403, /REGISTRY_REFUSED|AUTHENTICATION|refuses/],
  ])("that answers %i is told of, without its login", async (status, message) => {
    await using directory = await TemporaryDirectory.make();
    await using proxy = await TestProxy.start();
    proxy.status = status;
    const pulling = pull(directory, "registry.test:1/a:1", {
      insecure: ["registry.test:1"],
      env: { ALL_PROXY: `http://me:s3cret@127.0.0.1:${proxy.port}` },
    });
    await expect(pulling).rejects.toThrow(message);
    await expect(pulling).rejects.not.toThrow(/s3cret/);
  });

  it("is left out for a host in NO_PROXY, and for this machine", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serve);
    await using proxy = await TestProxy.start();
    await pull(directory, `${server.host}/a:1`, { env: { ALL_PROXY: `http://127.0.0.1:${proxy.port}` } });
    expect(proxy.asked).toEqual([]);
    const pulling = pull(directory, "registry.invalid:1/a:1", {
      env: { ALL_PROXY: `http://127.0.0.1:${proxy.port}`, NO_PROXY: "invalid" },
    });
    await expect(pulling).rejects.toMatchObject({ code: "REGISTRY_UNREACHABLE" });
    expect(proxy.asked).toEqual([]);
  });
});

describe("plain HTTP through SOCKS", () => {
  it.each([
    ["without a login", undefined, ""],
    ["with a login", "me:pw", "me:pw@"],
  ])("%s", async (_name, login, userInfo) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serve);
    await using socks = await TestSocks.start(login);
    const host = `registry.test:${server.host.split(":")[1]}`;
    await pull(directory, `${host}/a:1`, {
      insecure: [host],
      env: { ALL_PROXY: `socks5h://${userInfo}127.0.0.1:${socks.port}` },
    });
    expect(new Set(socks.asked)).toEqual(new Set([host]));
  });

  it.each<[string, string | undefined, string, number, RegExp]>([
    ["a wrong login", "me:pw", "me:s3cret@", 0, /refuses its user name and password/],
    ["no login", "me:pw", "", 0, /asks for a login/],
    ["a refusal", undefined, "", 2, /does not connect to registry.test:1: not allowed by its rules/],
    ["an unknown refusal", undefined, "", 99, /failure 99/],
  ])("tells of %s", async (_name, login, userInfo, reply, message) => {
    await using directory = await TemporaryDirectory.make();
    await using socks = await TestSocks.start(login);
    socks.reply = reply;
    const pulling = pull(directory, "registry.test:1/a:1", {
      insecure: ["registry.test:1"],
      env: { ALL_PROXY: `socks5://${userInfo}127.0.0.1:${socks.port}` },
    });
    await expect(pulling).rejects.toMatchObject({ code: "REGISTRY_UNREACHABLE", message });
    await expect(pulling).rejects.not.toThrow(/s3cret/);
  });

  it("writes addresses as addresses", async () => {
    await using directory = await TemporaryDirectory.make();
    await using socks = await TestSocks.start();
    socks.reply = 4;
    for (const [host, hex] of [
      ["192.0.2.7:5000", "c0000207:5000"],
      ["[2001:db8::7]:5000", "20010db8000000000000000000000007:5000"],
    ]) {
      const env = { ALL_PROXY: `socks5://127.0.0.1:${socks.port}` };
      await expect(pull(directory, `${host}/a:1`, { env })).rejects.toThrow(/host unreachable/);
      expect(socks.asked.at(-1)).toBe(hex);
    }
  });

  it("tells of one that is something else", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serve);
    const env = { ALL_PROXY: `socks5://${server.host}` };
    await expect(pull(directory, "registry.test:1/a:1", { env })).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      message: expect.stringMatching(/does not speak SOCKS 5|in the middle of its greeting/),
    });
  });
});

describe.skipIf(!(await hasTool("openssl")))("HTTPS (needs openssl)", () => {
  let shared: TemporaryDirectory;
  let authority: TestAuthority;
  let certificate: TestCertificate;
  let client: TestCertificate;
  beforeAll(async () => {
    shared = await TemporaryDirectory.make();
    authority = await TestAuthority.make(shared);
    certificate = await authority.sign("server", "DNS:registry.test,DNS:*.registry.test,IP:127.0.0.1");
    client = await authority.sign("client");
  });
  afterAll(() => shared[Symbol.asyncDispose]());

  it.each(["http", "socks5"])("goes through a tunnel of an %s proxy", async (kind) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, { handler: serve });
    await using proxy = await TestProxy.start();
    await using socks = await TestSocks.start();
    const host = `registry.test:${server.port}`;
    await writeCerts(directory.join("etc/containers/certs.d"), host, { authority });
    const port = kind === "http" ? proxy.port : socks.port;
    await pull(directory, `${host}/a:1`, { env: { HTTPS_PROXY: `${kind}://127.0.0.1:${port}` } });
    if (kind === "http") expect(proxy.asked.map(({ line }) => line)).toContain(`CONNECT ${host}`);
    else expect(socks.asked).toContain(host);
  });

  it("goes through a proxy that is itself spoken to in TLS", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, { handler: serve });
    await using inner = await TestProxy.start();
    // TLS in front of the plain proxy.
    const outer = createTlsServer(
      { cert: await readFile(certificate.certificate), key: await readFile(certificate.key) },
      (socket) => {
        const onward = connect(inner.port, "127.0.0.1");
        socket.on("error", () => {});
        onward.on("error", () => {});
        socket.pipe(onward).pipe(socket);
      },
    );
    const port = await listen(outer);
    const host = `registry.test:${server.port}`;
    await pull(directory, `${host}/a:1`, {
      env: { HTTPS_PROXY: `https://127.0.0.1:${port}`, SSL_CERT_FILE: authority.certificate },
    });
    expect(inner.asked.map(({ line }) => line)).toContain(`CONNECT ${host}`);
    outer.close();
  });

  it.each([
    [403, 1, /proxy 127.0.0.1:\d+ does not connect to registry.test:1: it answers 403/],
    [407, 1, /asks for a login/],
    [502, 6, /answers 502/],
  ])("is not had from a proxy that answers %i to CONNECT", async (status, attempts, message) => {
    await using directory = await TemporaryDirectory.make();
    await using proxy = await TestProxy.start();
    proxy.status = status;
    const env = { HTTPS_PROXY: `http://me:s3cret@127.0.0.1:${proxy.port}` };
    const pulling = pull(directory, "registry.test:1/a:1", { env });
    await expect(pulling).rejects.toMatchObject({ code: "REGISTRY_UNREACHABLE", message });
    await expect(pulling).rejects.not.toThrow(/s3cret/);
    expect(proxy.asked).toHaveLength(attempts);
  });

  it.each<[string, (directory: TemporaryDirectory) => Promise<NodeJS.ProcessEnv>]>([
    ["SSL_CERT_FILE", async () => ({ SSL_CERT_FILE: authority.certificate })],
    [
      "SSL_CERT_DIR",
      async (directory) => {
        await mkdir(directory.join("ca"));
        await writeFile(directory.join("ca/x.0"), await readFile(authority.certificate));
        return { SSL_CERT_DIR: `/nonexistent:${directory.join("ca")}` };
      },
    ],
    ["NODE_EXTRA_CA_CERTS", async () => ({ NODE_EXTRA_CA_CERTS: authority.certificate })],
    [
      "the system's list",
      async (directory) => {
        await mkdir(directory.join("etc/ssl/certs"), { recursive: true });
        const file = directory.join("etc/ssl/certs/ca-certificates.crt");
        await writeFile(file, await readFile(authority.certificate));
        return {};
      },
    ],
  ])("trusts the authorities of %s", async (_name, makeEnv) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, { handler: serve });
    await using proxy = await TestProxy.start();
    const env = await makeEnv(directory);
    const reference = `registry.test:${server.port}/a:1`;
    const viaProxy = { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` };
    await pull(directory, reference, { env: { ...env, ...viaProxy } });
    await using other = await TemporaryDirectory.make();
    await expect(pull(other, reference, { env: viaProxy })).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      hint: expect.stringMatching(/certs\.d\/registry\.test:\d+\/ca\.crt.*insecureRegistries/),
    });
  });

  it.each([
    ["home/.config/containers/certs.d"],
    ["home/.config/docker/certs.d"],
    ["home/.docker/certs.d"],
    ["etc/containers/certs.d"],
    ["etc/docker/certs.d"],
  ])("shows the certificate of %s", async (parent) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, {
      handler: serve,
      clientAuthority: authority,
    });
    const host = `127.0.0.1:${server.port}`;
    await writeCerts(directory.join(parent), host, { authority, client });
    await pull(directory, `${host}/a:1`);
    expect(new Set(server.clients)).toEqual(new Set(["client"]));
  });

  it("takes the first directory that is there, and no other", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, { handler: serve });
    const host = `127.0.0.1:${server.port}`;
    await writeCerts(directory.join("etc/docker/certs.d"), host, { authority });
    const stranger = await TestAuthority.make(shared, "stranger");
    await writeCerts(directory.join("home/.config/containers/certs.d"), host, { authority: stranger });
    await expect(pull(directory, `${host}/a:1`)).rejects.toMatchObject({ code: "REGISTRY_UNREACHABLE" });
    await pull(directory, `${host}/a:1`, { env: { XDG_CONFIG_HOME: directory.join("nothing") } });
  });

  it("shows no client certificate where a redirect leads, but trusts the same authority there", async () => {
    await using directory = await TemporaryDirectory.make();
    await using storage = await SecureServer.start(certificate, {
      handler: serve,
      clientAuthority: authority,
    });
    await using server = await SecureServer.start(certificate, {
      clientAuthority: authority,
      handler: (request, response) => {
        if (!request.url?.includes("/blobs/")) return serve(request, response);
        response
          .writeHead(307, { location: `https://blobs.registry.test:${storage.port}${request.url}` })
          .end();
      },
    });
    await using proxy = await TestProxy.start();
    const host = `registry.test:${server.port}`;
    await writeCerts(directory.join("etc/docker/certs.d"), host, { authority, client });
    await pull(directory, `${host}/a:1`, { env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` } });
    expect(new Set(server.clients)).toEqual(new Set(["client"]));
    expect(storage.requests.length).toBe(2);
    expect(new Set(storage.clients)).toEqual(new Set([undefined]));
  });

  it.each<[string, Record<string, string | "client" | "key">, RegExp]>([
    [
      "a certificate without its key",
      { "a.cert": "client" },
      /a\.cert is a client certificate without its key a\.key/,
    ],
    [
      "a key without its certificate",
      { "a.key": "key" },
      /a\.key is a key without its client certificate a\.cert/,
    ],
    ["a key of another name", { "a.cert": "client", "b.key": "key" }, /a\.cert .* without its key/],
    ["an authority that is no certificate", { "ca.crt": "rubbish" }, /ca\.crt has no certificate in PEM/],
    [
      "a client certificate that is none",
      { "a.cert": "rubbish", "a.key": "key" },
      /a\.cert and a\.key are not/,
    ],
    ["a key of something else", { "a.cert": "client", "a.key": "other" }, /a\.cert and a\.key are not/],
  ])("refuses %s", async (_name, files, message) => {
    await using directory = await TemporaryDirectory.make();
    const parent = directory.join("etc/docker/certs.d/registry.test:1");
    await mkdir(parent, { recursive: true });
    const sources: Record<string, string> = {
      client: client.certificate,
      key: client.key,
      other: certificate.key,
    };
    for (const [name, content] of Object.entries(files)) {
      const source = sources[content];
      await writeFile(`${parent}/${name}`, source === undefined ? content : await readFile(source));
    }
    await expect(pull(directory, "registry.test:1/a:1")).rejects.toMatchObject({
      code: "INVALID_CONFIGURATION",
      message,
    });
  });

  it("is kept to by a token server, whatever this machine's own may speak", async () => {
    await using directory = await TemporaryDirectory.make();
    await using tokens = await TestServer.start((_request, response) => void response.end('{"token":"t"}'));
    await using server = await SecureServer.start(certificate, {
      handler: (_request, response) => {
        const challenge = `Bearer realm="http://${tokens.host}/token"`;
        response.writeHead(401, { "www-authenticate": challenge }).end();
      },
    });
    await using proxy = await TestProxy.start();
    const env = { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}`, SSL_CERT_FILE: authority.certificate };
    await expect(pull(directory, `registry.test:${server.port}/a:1`, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: expect.stringContaining("not an HTTPS address"),
    });
    expect(tokens.requests).toEqual([]);
  });

  it("names the proxy that cannot be reached", async () => {
    await using directory = await TemporaryDirectory.make();
    const env = { HTTPS_PROXY: "http://me:s3cret@127.0.0.1:1" };
    await expect(pull(directory, "registry.test/a:1", { env })).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      message: expect.stringMatching(
        /cannot reach registry\.test through proxy 127\.0\.0\.1:1: .*ECONNREFUSED/,
      ),
    });
  });

  it("is missed where a registry speaks plain HTTP, which is said with what to do", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serve);
    await using proxy = await TestProxy.start();
    const host = `registry.test:${server.host.split(":")[1]}`;
    await expect(
      pull(directory, `${host}/a:1`, { env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` } }),
    ).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      message: expect.stringContaining(`${host} does not speak HTTPS`),
      hint: expect.stringMatching(/FIRECTL_INSECURE_REGISTRIES or in insecureRegistries of config\.json/),
    });
    expect(server.requests).toEqual([]);
  });

  it("is not verified where the registry is marked insecure, by Docker's daemon.json too", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await SecureServer.start(certificate, { handler: serve });
    await using proxy = await TestProxy.start();
    const host = `registry.test:${server.port}`;
    await mkdir(directory.join("etc/docker"), { recursive: true });
    await writeFile(
      directory.join("etc/docker/daemon.json"),
      JSON.stringify({ "insecure-registries": [host] }),
    );
    await pull(directory, `${host}/a:1`, { env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` } });
  });
});
