import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { collect, makeImage, TemporaryDirectory } from "../../image.test-helper.ts";
import { type Handler, serveImage, TestServer } from "../../registry.test-helper.ts";
import { notices, pull } from "./pull.test-helper.ts";

const image = makeImage();
const serve = serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] });

describe("mirrors", () => {
  const nothing: Handler = (request, response) => {
    response.writeHead(request.url === "/v2/" ? 200 : 404).end();
  };
  async function withUpstream(
    work: (options: {
      upstream: TestServer;
      directory: TemporaryDirectory;
      reference: string;
      domain: string;
    }) => Promise<void>,
    handler: Handler = serve,
  ): Promise<void> {
    await using directory = await TemporaryDirectory.make();
    await using upstream = await TestServer.start(handler);
    await work({
      upstream,
      directory,
      reference: `${upstream.host}/lib/app:1`,
      domain: upstream.host,
    });
  }

  it("are asked first, with the path that they have", () =>
    withUpstream(async ({ upstream, directory, reference, domain: registry }) => {
      await using mirror = await TestServer.start(serve);
      const mirrors = { [registry]: [`http://${mirror.host}/hub/`] };
      expect(notices(await pull(directory, reference, { mirrors }))).toEqual([]);
      expect(upstream.requests).toEqual([]);
      expect(mirror.requests.map(({ url }) => url)).toContain("/v2/hub/lib/app/manifests/1");
    }));

  it.each<[string, Handler]>([
    ["has nothing", nothing],
    ["refuses", (_request, response) => void response.writeHead(401, { "www-authenticate": "Basic" }).end()],
    ["fails", (_request, response) => void response.writeHead(500).end()],
    ["hangs up", (_request, response) => void response.destroy()],
    ["answers rubbish", (_request, response) => void response.end("<html>")],
  ])("that %s are left out, with a notice", (_name, handler) =>
    withUpstream(async ({ directory, reference, domain: registry }) => {
      await using mirror = await TestServer.start(handler);
      await using second = await TestServer.start(serve);
      const mirrors = { [registry]: [`http://${mirror.host}`, `http://${second.host}`] };
      const events = await pull(directory, reference, { mirrors });
      expect(notices(events)).toHaveLength(1);
      expect(notices(events)[0]).toContain("mirror");
    }),
  );

  it("that nobody runs are left out, and the registry asked", () =>
    withUpstream(async ({ upstream, directory, reference, domain: registry }) => {
      const events = await pull(directory, reference, { mirrors: { [registry]: ["http://127.0.0.1:1"] } });
      expect(notices(events)).toEqual([expect.stringContaining("mirror 127.0.0.1:1 is left out")]);
      expect(upstream.requests.length).toBeGreaterThan(3);
    }));

  it("that break in the middle of a blob are gone on with from the registry", () =>
    withUpstream(async ({ upstream, directory, reference, domain: registry }) => {
      const [layer] = image.layers;
      await using mirror = await TestServer.start(
        serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] }, (request, response) => {
          if (layer === undefined || !request.url?.endsWith(layer.digest)) return false;
          if (request.headers.range !== undefined) response.destroy();
          else {
            response.writeHead(200, { "content-length": layer.size });
            response.write(layer.bytes.subarray(0, 50), () => response.destroy());
          }
          return true;
        }),
      );
      const events = await pull(directory, reference, { mirrors: { [registry]: [`http://${mirror.host}`] } });
      expect(notices(events)).toHaveLength(1);
      expect(upstream.requests.map(({ range }) => range).filter(Boolean)).toEqual([
        `bytes=50-${(layer?.size ?? 0) - 1}`,
      ]);
    }));

  it.each<[string, (path: string) => boolean]>([
    ["a blob", (path) => path.endsWith(image.layers[0]?.digest ?? "-")],
    ["the configuration", (path) => path.endsWith(image.config.digest)],
  ])("that give other bytes for %s are left out, and nothing else is fetched twice", (_name, isLie) =>
    withUpstream(async ({ upstream, directory, reference, domain: registry }) => {
      await using mirror = await TestServer.start(
        serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] }, (request, response) => {
          if (!isLie(request.url ?? "")) return false;
          const size = [image.config, ...image.layers].find(({ digest }) =>
            request.url?.endsWith(digest),
          )?.size;
          response.end(Buffer.alloc(size ?? 0, "x"));
          return true;
        }),
      );
      const events = await pull(directory, reference, { mirrors: { [registry]: [`http://${mirror.host}`] } });
      expect(notices(events)).toEqual([expect.stringContaining(`a mirror of ${registry} gave is wrong`)]);
      const blobs = upstream.requests.filter(({ url }) => url.includes("/blobs/"));
      expect(blobs.some(({ url }) => isLie(url))).toBe(true);
    }),
  );

  it("that give other bytes of a layer spoil no work with the layers as they come", () =>
    withUpstream(async ({ directory, reference, domain: registry }) => {
      const [layer] = image.layers;
      if (layer === undefined) throw new Error("it has a layer");
      // All but its last bytes is right, and has been handed on by the time that the lie shows.
      const lie = Buffer.concat([layer.bytes.subarray(0, -4), Buffer.from("lies")]);
      await using mirror = await TestServer.start(
        serveImage({ root: image.manifest, blobs: [image.config] }, (request, response) => {
          if (!request.url?.endsWith(layer.digest)) return false;
          response.end(lie);
          return true;
        }),
      );
      const outcomes: string[] = [];
      await pull(directory, reference, {
        mirrors: { [registry]: [`http://${mirror.host}`] },
        whileLayersCome: async ({ layers }, open) => {
          const [first] = layers;
          if (first === undefined) throw new Error("it has a layer");
          outcomes.push("failed");
          const tar = await collect(open(first));
          outcomes.splice(-1, 1, tar.equals(image.tars[0] ?? Buffer.alloc(0)) ? "whole" : "wrong");
        },
      });
      expect(outcomes).toEqual(["failed", "whole"]);
    }));

  it("get their own login only, and the registry its own", () =>
    withUpstream(
      async ({ upstream, directory, reference, domain: registry }) => {
        const wants =
          (name: string): Handler =>
          async (request, response) => {
            const expected = `Basic ${Buffer.from(name).toString("base64")}`;
            if (request.headers.authorization === expected) {
              if (name === "mirror:m" && request.url?.includes("/blobs/")) response.writeHead(404).end();
              else await serve(request, response);
            } else response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
          };
        await using mirror = await TestServer.start(wants("mirror:m"));
        const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString("base64") });
        await mkdir(directory.join("home/.docker"), { recursive: true });
        await writeFile(
          directory.join("home/.docker/config.json"),
          JSON.stringify({ auths: { [mirror.host]: auth("mirror:m"), [registry]: auth("up:u") } }),
        );
        await pull(directory, reference, { mirrors: { [registry]: [`http://${mirror.host}`] } });
        const told = (server: TestServer): Set<string> =>
          new Set(server.requests.flatMap(({ authorization }) => authorization ?? []));
        expect(told(mirror)).toEqual(new Set([`Basic ${auth("mirror:m").auth}`]));
        expect(told(upstream)).toEqual(new Set([`Basic ${auth("up:u").auth}`]));
      },
      async (request, response) => {
        if (request.headers.authorization === undefined) {
          response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
        } else await serve(request, response);
      },
    ));

  it("in plain HTTP are not asked unless they are marked insecure", () =>
    withUpstream(async ({ directory, reference, domain: registry }) => {
      const events = await pull(directory, reference, { mirrors: { [registry]: ["http://mirror.test:80"] } });
      expect(notices(events)).toEqual([expect.stringMatching(/mirror mirror.test is left out.*plain HTTP/)]);
    }));

  it.each(["ftp://mirror.test", "https://", "https://u:s3cret@mirror.test", "https://mirror.test/?x"])(
    "%s are refused",
    (mirror) =>
      withUpstream(async ({ directory, reference, domain: registry }) => {
        const pulling = pull(directory, reference, { mirrors: { [registry]: [mirror] } });
        await expect(pulling).rejects.toMatchObject({ code: "INVALID_CONFIGURATION" });
        await expect(pulling).rejects.not.toThrow(/s3cret/);
      }),
  );

  it("of Docker Hub come from Docker's daemon.json, unless config.json has its own", async () => {
    await using directory = await TemporaryDirectory.make();
    await using mirror = await TestServer.start(serve);
    await mkdir(directory.join("etc/docker"), { recursive: true });
    const daemon = { "registry-mirrors": [`http://${mirror.host}`] };
    await writeFile(directory.join("etc/docker/daemon.json"), JSON.stringify(daemon));
    await pull(directory, "debian:12");
    expect(mirror.requests.map(({ url }) => url)).toContain("/v2/library/debian/manifests/12");
    mirror.requests.length = 0;
    // Turned off: only Docker Hub is left, which a proxy that nobody runs keeps us from.
    const env = { HTTPS_PROXY: "http://127.0.0.1:1" };
    await expect(pull(directory, "debian:12", { env, mirrors: { "docker.io": [] } })).rejects.toThrow(
      /registry-1/,
    );
    expect(mirror.requests).toEqual([]);
    await writeFile(directory.join("etc/docker/daemon.json"), "{rubbish");
    await expect(pull(directory, "debian:12", { env })).rejects.toThrow(/registry-1/);
  });
});
