import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../../host/process.ts";
import {
  type Blob,
  blob,
  collect,
  gzipLayer,
  hasTool,
  hostArchitecture,
  json,
  makeImage,
  makeIndex,
  makeManifest,
  noise,
  plainLayer,
  removeAll,
  TemporaryDirectory,
  type TestImage,
  tar,
} from "../../image.test-helper.ts";
import { Images, type PullProgress } from "../../images.ts";
import {
  CuttingProxy,
  type Handler,
  RealRegistry,
  sendPart,
  serveImage,
  TestServer,
} from "../../registry.test-helper.ts";

const HOST = { os: "linux", architecture: hostArchitecture() };
const hasSkopeo = await hasTool("skopeo");
const noLogin: NodeJS.ProcessEnv = { HOME: "/nonexistent", PATH: process.env["PATH"] };

function imagesIn(directory: TemporaryDirectory, env: NodeJS.ProcessEnv = noLogin): Images {
  return new Images({ root: directory.join("store"), env, firstRetryDelayMs: 2, idleTimeoutMs: 300 });
}

async function pull(
  directory: TemporaryDirectory,
  reference: string,
  options: { env?: NodeJS.ProcessEnv; platform?: string; pull?: "always" | "missing" } = {},
): Promise<PullProgress[]> {
  const events: PullProgress[] = [];
  const { env = noLogin, pull: policy = "missing", ...rest } = options;
  await imagesIn(directory, env).obtain(reference, {
    pull: policy,
    onProgress: (event) => void events.push(event),
    ...rest,
  });
  return events;
}

function served(image: TestImage): { root: Blob; blobs: Blob[] } {
  return { root: image.manifest, blobs: [image.config, ...image.layers] };
}

async function login(
  directory: TemporaryDirectory,
  host: string,
  userAndPassword: string,
): Promise<NodeJS.ProcessEnv> {
  await mkdir(directory.join("docker"), { recursive: true });
  const auth = Buffer.from(userAndPassword).toString("base64");
  await writeFile(directory.join("docker/config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
  return { ...noLogin, DOCKER_CONFIG: directory.join("docker") };
}

describe.skipIf(!(await hasTool("docker-registry")))("a real registry (needs docker-registry)", () => {
  let shared: TemporaryDirectory;
  let registry: RealRegistry;
  beforeAll(async () => {
    shared = await TemporaryDirectory.make();
    registry = await RealRegistry.start(shared);
  });
  afterAll(async () => {
    await registry[Symbol.asyncDispose]();
    await shared[Symbol.asyncDispose]();
  });

  const archive = tar([{ name: "etc/x", content: noise(200_000, "x") }]);

  it.each<[string, TestImage]>([
    ["gzip", makeImage({ layers: [gzipLayer(archive), gzipLayer(tar([]))] })],
    ["uncompressed", makeImage({ layers: [plainLayer(archive)] })],
    [
      "Docker's types",
      makeImage({
        docker: true,
        layers: [{ ...gzipLayer(archive), mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip" }],
      }),
    ],
    ["no layers", makeImage({ layers: [] })],
  ])("gives an image with %s", async (_name, image) => {
    await using directory = await TemporaryDirectory.make();
    await registry.push(image, { name: "a/b", tag: "1" });
    const images = imagesIn(directory);
    const local = await images.obtain(`${registry.host}/a/b:1`, { pull: "always" });
    expect(local).toMatchObject({
      reference: `${registry.host}/a/b:1`,
      manifestDigest: image.manifest.digest,
      configDigest: image.config.digest,
      platform: HOST,
      createdAt: "2026-01-02T03:04:05Z",
      config: { cmd: ["/bin/true"], env: ["A=b"], entrypoint: [], user: "" },
    });
    for (const [index, layer] of local.layers.entries()) {
      expect((await collect(images.openLayer(layer))).equals(image.tars[index] ?? Buffer.alloc(0))).toBe(
        true,
      );
    }
    expect(await images.find(`${registry.host}/a/b:1`)).toEqual(local);
  });

  it.skipIf(!hasSkopeo)("gives what skopeo pushed, and skopeo reads the store (needs skopeo)", async () => {
    await using directory = await TemporaryDirectory.make();
    await registry.push(makeImage({ layers: [gzipLayer(archive)] }), { name: "sk", tag: "gz" });
    const copy = (from: string, to: string, ...flags: readonly string[]): Promise<string> =>
      runProgram("skopeo", [
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        ...flags,
        from,
        to,
      ]);
    await copy(
      `docker://${registry.host}/sk:gz`,
      `docker://${registry.host}/sk:zst`,
      "--dest-compress-format=zstd",
      "--format=oci",
    );
    const images = imagesIn(directory);
    const local = await images.obtain(`${registry.host}/sk:zst`, { pull: "missing" });
    for (const layer of local.layers)
      expect((await collect(images.openLayer(layer))).equals(archive)).toBe(true);
    await copy(`oci:${directory.join("store")}:${registry.host}/sk:zst`, `dir:${directory.join("copy")}`);
    const copied = JSON.parse(await readFile(directory.join("copy/manifest.json"), "utf8"));
    expect(copied.layers[0].digest).toBe(local.layers[0]?.digest);
  });

  it("gives the platform that is asked for, by tag and by the index's digest", async () => {
    await using directory = await TemporaryDirectory.make();
    const [amd64, arm] = [makeImage({ architecture: "amd64" }), makeImage({ architecture: "arm" })];
    const attestation = makeImage({ os: "unknown", architecture: "unknown" });
    const v3 = makeImage({ architecture: "amd64" });
    for (const image of [amd64, arm, attestation, v3]) await registry.push(image, { name: "multi" });
    const index = makeIndex([
      { manifest: attestation.manifest, platform: { os: "unknown", architecture: "unknown" } },
      { manifest: arm.manifest, platform: { os: "linux", architecture: "arm", variant: "v7" } },
      { manifest: v3.manifest, platform: { os: "linux", architecture: "amd64", variant: "v3" } },
      { manifest: amd64.manifest, platform: { os: "linux", architecture: "amd64" } },
    ]);
    await registry.pushManifest(index, { name: "multi", tag: "1" });
    for (const name of [`${registry.host}/multi:1`, `${registry.host}/multi@${index.digest}`]) {
      await using own = await TemporaryDirectory.make();
      const images = imagesIn(own);
      const first = await images.obtain(name, { pull: "missing", platform: "linux/amd64" });
      const second = await images.obtain(name, { pull: "missing", platform: "linux/arm/v7" });
      expect([first.manifestDigest, second.manifestDigest]).toEqual([
        amd64.manifest.digest,
        arm.manifest.digest,
      ]);
      const third = await images.obtain(name, { pull: "always", platform: "linux/amd64/v3" });
      expect(third.manifestDigest).toBe(v3.manifest.digest);
      // All stay, side by side.
      expect(await images.find(name, { platform: "linux/amd64" })).toEqual(first);
    }
    await expect(
      imagesIn(directory).obtain(`${registry.host}/multi:1`, { pull: "missing", platform: "s390x" }),
    ).rejects.toMatchObject({
      code: "PLATFORM_MISSING",
      message: expect.stringContaining("it has linux/amd64, linux/amd64/v3, linux/arm/v7"),
    });
  });

  it("refuses a single image of another platform", async () => {
    await using directory = await TemporaryDirectory.make();
    await registry.push(makeImage({ architecture: "s390x" }), { name: "other", tag: "1" });
    await expect(pull(directory, `${registry.host}/other:1`)).rejects.toMatchObject({
      code: "PLATFORM_MISSING",
    });
  });

  it("says what is not there", async () => {
    await using directory = await TemporaryDirectory.make();
    for (const name of ["nothing/here:1", `nothing@sha256:${"0".repeat(64)}`]) {
      await expect(pull(directory, `${registry.host}/${name}`)).rejects.toMatchObject({
        code: "IMAGE_NOT_FOUND",
      });
    }
    await expect(imagesIn(directory).obtain(`${registry.host}/x`, { pull: "never" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
      message: expect.stringContaining("not in the local store"),
    });
  });

  it("is asked again by the policy always only, and then for little", async () => {
    await using directory = await TemporaryDirectory.make();
    const name = `${registry.host}/policy:1`;
    const [first, second] = [makeImage(), makeImage()];
    await registry.push(first, { name: "policy", tag: "1" });
    await pull(directory, name);
    await registry.push(second, { name: "policy", tag: "1" });
    expect(await pull(directory, name)).toEqual([]);
    expect((await imagesIn(directory).find(name))?.manifestDigest).toBe(first.manifest.digest);
    await pull(directory, name, { pull: "always" });
    expect((await imagesIn(directory).find(name))?.manifestDigest).toBe(second.manifest.digest);
    expect(await pull(directory, name, { pull: "always" })).toEqual([{ type: "resolving", reference: name }]);
    // The one that had the name stays without it, until it is pruned.
    const names = (await imagesIn(directory).list()).map((stored) => stored.name);
    expect(names.filter((each) => each !== undefined)).toHaveLength(1);
  });

  it("mends a store that has lost a blob, by the policy always", async () => {
    await using directory = await TemporaryDirectory.make();
    const name = `${registry.host}/mend:1`;
    const image = makeImage();
    await registry.push(image, { name: "mend", tag: "1" });
    await pull(directory, name);
    const [layer] = image.layers;
    if (layer === undefined) throw new Error("it has a layer");
    await writeFile(directory.join("store/blobs/sha256", layer.digest.slice(7)), "damaged");
    const images = imagesIn(directory);
    const local = await images.find(name);
    const [broken] = local?.layers ?? [];
    if (broken === undefined) throw new Error("it has a layer");
    await expect(collect(images.openLayer(broken))).rejects.toMatchObject({
      code: "LAYER_INVALID",
      hint: expect.stringMatching(/--pull always/),
    });
    await pull(directory, name, { pull: "always" });
    expect((await collect(images.openLayer(broken))).length).toBeGreaterThan(0);
  });

  it("fetches shared layers once, and removes what is no longer shared", async () => {
    await using directory = await TemporaryDirectory.make();
    const base = gzipLayer(archive);
    const [one, two] = ["1", "2"].map((text) =>
      makeImage({ layers: [base, gzipLayer(tar([{ name: text }]))] }),
    );
    if (one === undefined || two === undefined) throw new Error("two");
    await registry.push(one, { name: "shared", tag: "1" });
    await registry.push(two, { name: "shared", tag: "2" });
    await pull(directory, `${registry.host}/shared:1`);
    const events = await pull(directory, `${registry.host}/shared:2`);
    expect(events).toContainEqual({
      type: "layer-exists",
      digest: two.layers[0]?.digest,
      total: two.layers[0]?.size,
    });
    expect(events).toContainEqual({
      type: "layer-done",
      digest: two.layers[1]?.digest,
      total: two.layers[1]?.size,
    });
    const images = imagesIn(directory);
    await removeAll(images, `${registry.host}/shared:1`);
    expect(await readdir(directory.join("store/blobs/sha256"))).toHaveLength(4);
    await removeAll(images, `${registry.host}/shared:2`);
    expect(await readdir(directory.join("store/blobs/sha256"))).toEqual([]);
    await expect(removeAll(images, `${registry.host}/shared:2`)).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
  });

  it("is read to the end through a line that breaks at any byte", async () => {
    await using directory = await TemporaryDirectory.make();
    const layers = ["1", "2", "3"].map((name) => gzipLayer(tar([{ name, content: noise(2_000_000, name) }])));
    await registry.push(makeImage({ layers }), { name: "line", tag: "1" });
    let connections = 0;
    // From in the middle of a header to far into a blob; in the end the line holds.
    const cuts = [1, 50, 300, 100_000, 777_777, 1_500_000, 70_001, 200, 900_000, 131_072];
    await using proxy = await CuttingProxy.start(registry.host, () => cuts[connections++]);
    const images = imagesIn(directory);
    const local = await images.obtain(`${proxy.host}/line:1`, { pull: "missing" });
    expect(proxy.cuts).toBeGreaterThan(5);
    for (const [index, layer] of local.layers.entries()) {
      expect((await collect(images.openLayer(layer))).equals(layers[index]?.tar ?? Buffer.alloc(0))).toBe(
        true,
      );
    }
  });

  it("is logged in to with a password", async () => {
    await using directory = await TemporaryDirectory.make();
    // "user" with the password "s3cret:x".
    const hash = "user:$2y$04$abcdefghijklmnopqrstuuh51NQfZBCY2nUs1Btlpp7LsFp/mk44C\n";
    await writeFile(directory.join("htpasswd"), hash);
    await using locked = await RealRegistry.start(directory, {
      auth: `{htpasswd: {realm: r, path: ${directory.join("htpasswd")}}}`,
    });
    const authorization = `Basic ${Buffer.from("user:s3cret:x").toString("base64")}`;
    await locked.push(makeImage(), { name: "private", tag: "1", authorization });
    const name = `${locked.host}/private:1`;
    await expect(pull(directory, name)).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: expect.stringMatching(/without a login/),
    });
    const wrong = await login(directory, locked.host, "user:wrong");
    await expect(pull(directory, name, { env: wrong })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: expect.stringMatching(/^(?!.*wrong).*with the stored login/),
    });
    await pull(directory, name, { env: await login(directory, locked.host, "user:s3cret:x") });
  });
});

describe("tokens", () => {
  /** A registry that wants a token, and the server that gives them. */
  async function tokenRegistry(
    image: TestImage,
    options: { lifetimeS?: number; revokedAt?: number; realm?: (own: string) => string } = {},
  ): Promise<{ server: TestServer; tokens: () => string[] }> {
    const valid = new Set<string>();
    let answered = 0;
    const issued: string[] = [];
    const serve = serveImage(served(image));
    const handler: Handler = (request, response) => {
      const url = new URL(request.url ?? "", "http://x");
      if (url.pathname === "/token") return giveToken(url, response);
      const token = (request.headers.authorization ?? "").replace(/^Bearer /, "");
      answered += 1;
      if (answered === options.revokedAt) valid.clear();
      if (!valid.has(token)) return challenge(response);
      return serve(request, response);
    };
    const giveToken = (url: URL, response: ServerResponse): void => {
      const token = `token-${issued.length}`;
      issued.push(`${url.searchParams.get("service")} ${url.searchParams.get("scope")}`);
      valid.add(token);
      response.end(JSON.stringify({ token, expires_in: options.lifetimeS ?? 300 }));
    };
    const challenge = (response: ServerResponse): void => {
      const realm = options.realm?.(server.host) ?? `http://${server.host}/token`;
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="svc"` }).end();
    };
    const server: TestServer = await TestServer.start(handler);
    return { server, tokens: () => issued };
  }

  const image = makeImage({ layers: ["1", "2", "3", "4", "5"].map((name) => gzipLayer(tar([{ name }]))) });

  it("are asked for once, anonymously", async () => {
    await using directory = await TemporaryDirectory.make();
    const { server, tokens } = await tokenRegistry(image);
    await using _ = server;
    await pull(directory, `${server.host}/a/b:1`);
    expect(tokens()).toEqual(["svc repository:a/b:pull"]);
    expect(server.requests.filter(({ url }) => url.startsWith("/token"))[0]?.authorization).toBeUndefined();
  });

  it("are asked for with the login", async () => {
    await using directory = await TemporaryDirectory.make();
    const { server } = await tokenRegistry(image);
    await using _ = server;
    await pull(directory, `${server.host}/a/b:1`, { env: await login(directory, server.host, "me:pw") });
    const asked = server.requests.find(({ url }) => url.startsWith("/token"));
    expect(asked?.authorization).toBe(`Basic ${Buffer.from("me:pw").toString("base64")}`);
  });

  it.each([
    ["by the registry's word", { revokedAt: 4 }],
    ["by the clock", { lifetimeS: 0.001 }],
  ])("are renewed when they expire in the middle of a pull, %s", async (_name, options) => {
    await using directory = await TemporaryDirectory.make();
    const { server, tokens } = await tokenRegistry(image, options);
    await using _ = server;
    await pull(directory, `${server.host}/a/b:1`);
    expect(tokens().length).toBeGreaterThan(1);
  });

  it("are exchanged for an identity token by POST", async () => {
    await using directory = await TemporaryDirectory.make();
    let form = "";
    await using server: TestServer = await TestServer.start(async (request, response) => {
      if (request.url === "/token") {
        form = (await collect(request)).toString();
        response.end('{"access_token":"t"}');
      } else if (request.headers.authorization === "Bearer t")
        await serveImage(served(image))(request, response);
      else {
        response
          .writeHead(401, { "www-authenticate": `Bearer realm="http://${server.host}/token",service="s"` })
          .end();
      }
    });
    await mkdir(directory.join("docker"));
    const auths = { [server.host]: { identitytoken: "refresh me" } };
    await writeFile(directory.join("docker/config.json"), JSON.stringify({ auths }));
    await pull(directory, `${server.host}/a:1`, {
      env: { ...noLogin, DOCKER_CONFIG: directory.join("docker") },
    });
    expect(form).toBe(
      "grant_type=refresh_token&client_id=firectl&service=s&scope=repository%3Aa%3Apull&refresh_token=refresh+me",
    );
  });

  it("are not exchanged where a redirect leads: the identity token would go with it", async () => {
    await using directory = await TemporaryDirectory.make();
    await using thief = await TestServer.start((_request, response) => void response.end('{"token":"t"}'));
    await using server: TestServer = await TestServer.start((request, response) => {
      if (request.url === "/token") response.writeHead(307, { location: `http://${thief.host}/token` }).end();
      else
        response.writeHead(401, { "www-authenticate": `Bearer realm="http://${server.host}/token"` }).end();
    });
    await mkdir(directory.join("docker"));
    const auths = { [server.host]: { identitytoken: "secret" } };
    await writeFile(directory.join("docker/config.json"), JSON.stringify({ auths }));
    const env = { ...noLogin, DOCKER_CONFIG: directory.join("docker") };
    await expect(pull(directory, `${server.host}/a:1`, { env })).rejects.toMatchObject({
      code: "REGISTRY_REFUSED",
      message: expect.stringMatching(/answers 307/),
    });
    expect(thief.requests).toEqual([]);
  });

  // https://github.com/advisories/GHSA-742w-89gc-8m9c
  it("CVE-2020-15157: a token server of another site gets no login", async () => {
    await using directory = await TemporaryDirectory.make();
    await using thief = await TestServer.start(
      (_request, response) => void response.end('{"token":"token-0"}'),
    );
    const elsewhere = thief.host.replace("127.0.0.1", "localhost");
    const { server } = await tokenRegistry(image, { realm: () => `http://${elsewhere}/token` });
    await using _ = server;
    const env = await login(directory, server.host, "me:pw");
    await expect(pull(directory, `${server.host}/a/b:1`, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
    });
    expect(thief.requests.length).toBeGreaterThan(0);
    expect(thief.requests.map(({ authorization }) => authorization)).toEqual(
      thief.requests.map(() => undefined),
    );
  });

  it.each([["http://example.com/token"], ["ftp://127.0.0.1/token"], ["token"], [""]])(
    "are not asked for at %j",
    async (realm) => {
      await using directory = await TemporaryDirectory.make();
      const { server } = await tokenRegistry(image, { realm: () => realm });
      await using _ = server;
      await expect(pull(directory, `${server.host}/a/b:1`)).rejects.toMatchObject({
        code: "AUTHENTICATION_FAILED",
        message: expect.stringMatching(/not an HTTPS address/),
      });
    },
  );

  it.each([["{}"], ["no JSON"], ['{"token":"line\\r\\nbreak"}'], ['{"token":5}'], ["x".repeat(2_000_000)]])(
    "that are none are refused",
    async (reply) => {
      await using directory = await TemporaryDirectory.make();
      await using server: TestServer = await TestServer.start((request, response) => {
        if (request.url?.startsWith("/token")) response.end(reply);
        else
          response.writeHead(401, { "www-authenticate": `Bearer realm="http://${server.host}/token"` }).end();
      });
      await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({
        code: expect.stringMatching(/AUTHENTICATION_FAILED|REGISTRY_REFUSED/),
      });
    },
  );
});

describe("redirects", () => {
  const image = makeImage();

  it("to another origin are followed without the login", async () => {
    await using directory = await TemporaryDirectory.make();
    await using storage = await TestServer.start((request, response) => {
      const part = image.layers.find(({ digest }) => request.url === `/${digest}`);
      if (part !== undefined) sendPart(request, response, part);
    });
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (request.headers.authorization === undefined) {
          response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
          return true;
        }
        const part = image.layers.find(({ digest }) => request.url?.endsWith(digest));
        if (part === undefined) return false;
        response.writeHead(307, { location: `http://${storage.host}/${part.digest}` }).end();
        return true;
      }),
    );
    await pull(directory, `${server.host}/a:1`, { env: await login(directory, server.host, "me:pw") });
    expect(storage.requests).toHaveLength(1);
    expect(storage.requests[0]?.authorization).toBeUndefined();
    expect(server.requests.filter(({ authorization }) => authorization !== undefined).length).toBeGreaterThan(
      2,
    );
  });

  it("that lead away and back come back without the login", async () => {
    await using directory = await TemporaryDirectory.make();
    await using elsewhere = await TestServer.start((_request, response) => {
      response.writeHead(307, { location: `http://${server.host}/v2/private/blobs/x` }).end();
    });
    await using server: TestServer = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (request.headers.authorization === undefined) {
          response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
          return true;
        }
        if (!request.url?.includes("/blobs/")) return false;
        response.writeHead(307, { location: `http://${elsewhere.host}/` }).end();
        return true;
      }),
    );
    const env = await login(directory, server.host, "me:pw");
    await expect(pull(directory, `${server.host}/a:1`, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
    });
    const back = server.requests.filter(({ url }) => url.startsWith("/v2/private/"));
    expect(back.length).toBeGreaterThan(0);
    expect(back.map(({ authorization }) => authorization)).toEqual(back.map(() => undefined));
  });

  it("whose target asks for a login do not get one", async () => {
    await using directory = await TemporaryDirectory.make();
    await using thief = await TestServer.start((_request, response) => {
      response.writeHead(401, { "www-authenticate": `Bearer realm="http://${thief.host}/token"` }).end();
    });
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!request.url?.includes("/blobs/")) return false;
        response.writeHead(302, { location: `http://${thief.host}/blob` }).end();
        return true;
      }),
    );
    const env = await login(directory, thief.host, "me:pw");
    await expect(pull(directory, `${server.host}/a:1`, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
    });
    expect(thief.requests.map(({ url }) => url)).toEqual(["/blob"]);
  });

  it.each([
    ["to plain HTTP elsewhere", "http://example.com/x", /redirects to plain HTTP at example.com/],
    ["to a file", "file:///etc/passwd", /not a web address/],
    ["to nowhere", "http://", /not a web address/],
    ["in a circle", "/v2/a/blobs/again", /redirects more than 5 times/],
  ])("%s are refused", async (_name, location, message) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!request.url?.includes("/blobs/")) return false;
        response.writeHead(302, { location }).end();
        return true;
      }),
    );
    await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({
      code: "REGISTRY_REFUSED",
      message,
    });
  });
});

describe("a connection that fails", () => {
  const layer = plainLayer(tar([{ name: "big", content: noise(3_000_000, "big") }]));
  const image = makeImage({ layers: [layer] });
  const isLayer = (url: string | undefined): boolean =>
    url?.endsWith(image.layers[0]?.digest ?? "-") === true;

  it("in the middle of a blob is taken up where it broke", async () => {
    await using directory = await TemporaryDirectory.make();
    let cuts = 0;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!isLayer(request.url) || cuts >= 5) return false;
        cuts += 1;
        const start = Number(/(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
        // Somewhere, at no round number.
        const bytes = layer.bytes.subarray(start, start + 100_003 + Math.floor(Math.random() * 400_000));
        response.writeHead(start > 0 ? 206 : 200, {
          "content-length": layer.bytes.length - start,
          "content-range": `bytes ${start}-${layer.bytes.length - 1}/${layer.bytes.length}`,
        });
        response.write(bytes, () => response.destroy());
        return true;
      }),
    );
    const events = await pull(directory, `${server.host}/a:1`);
    const asked = server.requests.filter(({ url }) => isLayer(url));
    expect(asked).toHaveLength(6);
    expect(asked.slice(1).every(({ range }) => range !== undefined)).toBe(true);
    expect(events.filter(({ type }) => type === "retrying")).toHaveLength(5);
  });

  it("is taken up even where the server knows no ranges", async () => {
    await using directory = await TemporaryDirectory.make();
    let cuts = 0;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!isLayer(request.url)) return false;
        response.writeHead(200, { "content-length": layer.bytes.length });
        cuts += 1;
        if (cuts > 1) response.end(layer.bytes);
        else response.write(layer.bytes.subarray(0, 1_000_001), () => response.destroy());
        return true;
      }),
    );
    await pull(directory, `${server.host}/a:1`);
    expect(cuts).toBe(2);
  });

  it("just when it is used again is replaced at once, without a word", async () => {
    await using directory = await TemporaryDirectory.make();
    const seen = new WeakSet<object>();
    let cuts = 0;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        const isReused = seen.has(request.socket);
        seen.add(request.socket);
        if (!isReused || cuts >= 3) return false;
        cuts += 1;
        response.destroy();
        return true;
      }),
    );
    const events = await pull(directory, `${server.host}/a:1`);
    expect(cuts).toBeGreaterThan(0);
    expect(events.filter(({ type }) => type === "retrying")).toEqual([]);
  });

  it("falls silent: the next attempt comes after the idle timeout", async () => {
    await using directory = await TemporaryDirectory.make();
    let stalls = 0;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!isLayer(request.url) || stalls > 0) return false;
        stalls += 1;
        response.writeHead(200, { "content-length": layer.bytes.length });
        response.write(layer.bytes.subarray(0, 200_000));
        return true;
      }),
    );
    await pull(directory, `${server.host}/a:1`);
    expect(server.requests.filter(({ url }) => isLayer(url))[1]?.range).toMatch(/^bytes=[1-9]/);
  });

  it("every time is reported in the end, and the next pull goes on", async () => {
    await using directory = await TemporaryDirectory.make();
    let isBroken = true;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!isLayer(request.url) || !isBroken) return false;
        if (request.headers.range !== undefined) response.destroy();
        else {
          response.writeHead(200, { "content-length": layer.bytes.length });
          response.write(layer.bytes.subarray(0, 1_000_000), () => response.destroy());
        }
        return true;
      }),
    );
    await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
    });
    isBroken = false;
    await pull(directory, `${server.host}/a:1`);
    expect(server.requests.at(-1)?.range).toMatch(/^bytes=[1-9]/);
  });

  it.each([
    [429, { "retry-after": "0" }],
    [503, {}],
    [500, {}],
    [502, {}],
  ])("with %i is tried again", async (status, headers) => {
    await using directory = await TemporaryDirectory.make();
    const failed = new Set<string>();
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        const url = request.url ?? "";
        if (url === "/v2/" || failed.has(url)) return false;
        failed.add(url);
        response.writeHead(status, headers).end();
        return true;
      }),
    );
    await pull(directory, `${server.host}/a:1`);
    expect(failed.size).toBe(3);
  });

  it("with 429 for too long is given up at once", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start((request, response) => {
      if (request.url === "/v2/") response.end();
      else
        response
          .writeHead(429, { "retry-after": "3600" })
          .end('{"errors":[{"message":"toomanyrequests\\u001b[2J"}]}');
    });
    const failure = await pull(directory, `${server.host}/a:1`).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: "REGISTRY_REFUSED",
      message: expect.stringMatching(/answers 429/),
      hint: expect.stringMatching(/limits/),
    });
    expect(server.requests.filter(({ url }) => url !== "/v2/")).toHaveLength(1);
  });

  it("because nobody listens is said at once", async () => {
    await using directory = await TemporaryDirectory.make();
    await expect(pull(directory, "127.0.0.1:1/a:1")).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      message: expect.stringContaining("127.0.0.1:1"),
    });
  });

  it("is left when the caller aborts", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!isLayer(request.url)) return false;
        response.writeHead(200, { "content-length": layer.bytes.length });
        response.write(layer.bytes.subarray(0, 100_000));
        return true;
      }),
    );
    const controller = new AbortController();
    const images = new Images({ root: directory.join("store"), env: noLogin });
    const obtaining = images.obtain(`${server.host}/a:1`, {
      pull: "missing",
      signal: controller.signal,
      onProgress: (event) => {
        if (event.type === "layer" && event.received > 0) controller.abort(new Error("enough"));
      },
    });
    setTimeout(() => controller.abort(new Error("enough")), 500);
    await expect(obtaining).rejects.toThrow("enough");
    // The store is free again.
    expect(await images.collectGarbage({ timeoutMs: 1000 })).toMatchObject({ blobs: 1 });
  });
});

describe("what a registry says of a failure", () => {
  it("is quoted without the secrets in it, and with what was asked", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start((request, response) => {
      if (request.url === "/v2/") response.end("{}");
      else response.writeHead(400).end('{"errors":[{"message":"no token:1 for token: s3cret"}]}');
    });
    await expect(pull(directory, `${server.host}/token:1`)).rejects.toMatchObject({
      message: expect.stringMatching(/answers 400 to .*\/token\/manifests\/1: no token:1 for token: \*\*\*$/),
    });
  });
});

describe("lies", () => {
  const image = makeImage({ layers: [plainLayer(tar([{ name: "x", content: noise(100_000, "x") }]))] });
  const [layer] = image.layers;
  if (layer === undefined) throw new Error("it has a layer");

  it.each<[string, (response: ServerResponse) => void]>([
    ["other bytes", (response) => response.end(noise(layer.size, "other"))],
    ["a byte too few", (response) => response.end(layer.bytes.subarray(1))],
    ["a byte too many", (response) => response.end(Buffer.concat([layer.bytes, Buffer.from("x")]))],
    [
      "a byte too many, unannounced",
      (response) => {
        response.write(layer.bytes);
        response.end("x");
      },
    ],
    [
      "a byte too few, unannounced",
      (response) => {
        response.write(layer.bytes.subarray(0, 500));
        response.end(layer.bytes.subarray(500, -1));
      },
    ],
    ["nothing", (response) => response.end()],
  ])("in a blob: %s", async (_name, answer) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!request.url?.endsWith(layer.digest)) return false;
        answer(response);
        return true;
      }),
    );
    await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
      message: expect.stringContaining(layer.digest),
    });
    expect(await imagesIn(directory).list()).toEqual([]);
  });

  it("in a range", async () => {
    await using directory = await TemporaryDirectory.make();
    let count = 0;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!request.url?.endsWith(layer.digest)) return false;
        if (count++ === 0) {
          response.writeHead(200, { "content-length": layer.size });
          response.write(layer.bytes.subarray(0, 70_000), () => response.destroy());
        } else
          response.writeHead(206, { "content-range": `bytes 5-${layer.size - 1}/${layer.size}` }).end("x");
        return true;
      }),
    );
    await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  });

  it.each<[string, () => { root: Blob; manifests?: Blob[]; blobs?: Blob[] }, string]>([
    [
      "a size in the manifest",
      () => ({ root: makeManifest(image.config, [{ ...layer, size: layer.size + 1 }]) }),
      "DIGEST_MISMATCH",
    ],
    [
      "a size of petabytes",
      () => ({ root: makeManifest(image.config, [{ ...layer, size: 2 ** 52 }]) }),
      "DIGEST_MISMATCH",
    ],
    [
      "a size in the index",
      () => ({
        root: makeIndex([{ manifest: { ...image.manifest, size: image.manifest.size - 1 }, platform: HOST }]),
        manifests: [image.manifest],
      }),
      "DIGEST_MISMATCH",
    ],
    [
      "a huge manifest in the index",
      () => ({ root: makeIndex([{ manifest: { ...image.manifest, size: 5_000_000 }, platform: HOST }]) }),
      "MANIFEST_INVALID",
    ],
    [
      "a manifest that is another",
      () => ({
        root: makeIndex([{ manifest: image.manifest, platform: HOST }]),
        manifests: [{ ...image.manifest, bytes: makeImage().manifest.bytes }],
      }),
      "DIGEST_MISMATCH",
    ],
    [
      "the number of layers",
      () => ({ root: makeManifest(image.config, [layer, layer]) }),
      "MANIFEST_INVALID",
    ],
    [
      "a manifest of 5 MB",
      () => ({ root: blob(image.manifest.mediaType, Buffer.alloc(5_000_000, " ")) }),
      "REGISTRY_REFUSED",
    ],
    ["HTML", () => ({ root: blob("text/html", Buffer.from("<html>")) }), "MANIFEST_INVALID"],
    [
      "no config",
      () => ({ root: makeManifest(blob(image.config.mediaType, json({})), [layer]), blobs: [] }),
      "IMAGE_NOT_FOUND",
    ],
  ])("in manifests: %s", async (_name, make, code) => {
    await using directory = await TemporaryDirectory.make();
    const lie = make();
    await using server = await TestServer.start(serveImage({ blobs: [image.config, layer], ...lie }));
    await expect(pull(directory, `${server.host}/a:1`)).rejects.toMatchObject({ name: "FirectlError", code });
    expect(await imagesIn(directory).list()).toEqual([]);
  });

  it.each([
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"],
    ["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"],
  ])("of a foreign layer, %s: taken where the registry has it, else named", async (mediaType) => {
    const foreign = makeImage({
      docker: mediaType.includes("docker"),
      layers: [{ ...gzipLayer(tar([{ name: "x" }])), mediaType }],
    });
    const digest = foreign.layers[0]?.digest ?? "";
    await using directory = await TemporaryDirectory.make();
    await using without = await TestServer.start(
      serveImage({ root: foreign.manifest, blobs: [foreign.config] }),
    );
    await expect(pull(directory, `${without.host}/a:1`)).rejects.toMatchObject({
      code: "LAYER_INVALID",
      message: expect.stringMatching(new RegExp(`${digest} .*foreign layer`)),
    });
    await using whole = await TestServer.start(serveImage(served(foreign)));
    await pull(directory, `${whole.host}/a:1`);
  });

  it("in the digest that a reference names", async () => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serveImage(served(image)));
    await expect(pull(directory, `${server.host}/a@sha256:${"0".repeat(64)}`)).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
    });
  });

  it.each([
    [4, "taken"],
    [5, "refused"],
  ])("indexes %i deep are %s", async (depth, outcome) => {
    await using directory = await TemporaryDirectory.make();
    const nested: Blob[] = [image.manifest];
    for (let level = 0; level < depth; level++) {
      const inner = nested.at(-1);
      if (inner !== undefined) nested.push(makeIndex([{ manifest: inner }]));
    }
    const root = nested.at(-1);
    if (root === undefined) throw new Error("it has levels");
    await using server = await TestServer.start(
      serveImage({ root, manifests: nested, blobs: [image.config, layer] }),
    );
    const pulling = pull(directory, `${server.host}/a:1`);
    if (outcome === "taken") await pulling;
    else
      await expect(pulling).rejects.toMatchObject({
        code: "MANIFEST_INVALID",
        message: expect.stringMatching(/more than 4 deep/),
      });
  });
});
