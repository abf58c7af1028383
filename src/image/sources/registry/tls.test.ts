import { once } from "node:events";
import { readFile } from "node:fs/promises";
import https from "node:https";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../../host/process.ts";
import { hasTool, makeImage, TemporaryDirectory } from "../../image.test-helper.ts";
import { type Handler, serveImage, TestServer } from "../../registry.test-helper.ts";
import { RegistryClient } from "./client.ts";

const image = makeImage();
const handler = serveImage({ root: image.manifest, blobs: [] });

function clientFor(host: string, isInsecure: boolean): RegistryClient {
  return new RegistryClient({
    domain: host,
    path: "a",
    network: {
      isInsecure: () => isInsecure,
      proxyFor: () => undefined,
      certificatesFor: () => undefined,
      allAuthorities: async () => [],
    },
    tokenServers: [],
    findCredentials: async () => ({ credentials: undefined, problem: undefined }),
    onRetry: () => {},
    firstDelayMs: 1,
  });
}

describe.skipIf(!(await hasTool("openssl")))(
  "HTTPS with a certificate that nobody vouches for (needs openssl)",
  () => {
    async function withServer(
      work: (host: string) => Promise<void>,
      answer: Handler = handler,
    ): Promise<void> {
      await using directory = await TemporaryDirectory.make();
      const [key, cert] = [directory.join("key.pem"), directory.join("cert.pem")];
      const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
      await runProgram("openssl", [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        cert,
        ...subject,
      ]);
      const server = https.createServer({ key: await readFile(key), cert: await readFile(cert) });
      server.on("request", (request, response) => void answer(request, response));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("it listens on a port");
      try {
        await work(`127.0.0.1:${address.port}`);
      } finally {
        server.closeAllConnections();
        server.close();
      }
    }

    it("is refused, with what to do about it", () =>
      withServer(async (host) => {
        using client = clientFor(host, false);
        await expect(client.getManifest("1", undefined)).rejects.toMatchObject({
          code: "REGISTRY_UNREACHABLE",
          hint: expect.stringContaining("NODE_EXTRA_CA_CERTS"),
        });
      }));

    it("is spoken to all the same when the registry is named insecure", () =>
      withServer(async (host) => {
        using client = clientFor(host, true);
        expect((await client.getManifest("1", undefined)).bytes).toEqual(image.manifest.bytes);
      }));
  },
);

describe("plain HTTP", () => {
  it("is never spoken to a registry that is not named insecure", async () => {
    await using server = await TestServer.start(handler);
    using client = clientFor(server.host, false);
    await expect(client.getManifest("1", undefined)).rejects.toMatchObject({ code: "REGISTRY_UNREACHABLE" });
    expect(server.requests).toEqual([]);
  });
});
