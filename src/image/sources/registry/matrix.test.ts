import { mkdir, readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../../host/process.ts";
import {
  type Blob,
  blob,
  collect,
  descriptor,
  gzipLayer,
  hasTool,
  json,
  makeImage,
  makeIndex,
  noise,
  type plainLayer,
  TemporaryDirectory,
  type TestImage,
  tar,
} from "../../image.test-helper.ts";
import { Images } from "../../images.ts";
import { CuttingProxy, RealRegistry } from "../../registry.test-helper.ts";
import { TestAuthority, type TestCertificate, writeCerts } from "./certificates.test-helper.ts";
import { TokenServer } from "./token-server.test-helper.ts";

/**
 * Every transport × login × kind of manifest × compression, from real registries that serve one directory.
 * What they speak in TLS asks for a client certificate.
 */
const TRANSPORTS = ["plain HTTP", "TLS"] as const;
const LOGINS = ["none", "basic", "token"] as const;
const KINDS = ["docker", "oci", "index", "nested"] as const;
const COMPRESSIONS = ["none", "gzip", "multi-gzip", "zstd"] as const;

const USER = "user:s3cret:x";
/** bcrypt of it. */
const HTPASSWD = "user:$2y$04$abcdefghijklmnopqrstuuh51NQfZBCY2nUs1Btlpp7LsFp/mk44C\n";

const tools = ["docker-registry", "openssl", "zstd"];
const missing: string[] = [];
for (const tool of tools) if (!(await hasTool(tool))) missing.push(tool);

type Layer = ReturnType<typeof plainLayer>;

describe.skipIf(missing.length > 0)("the matrix (needs docker-registry, openssl, zstd)", () => {
  let directory: TemporaryDirectory;
  let authority: TestAuthority;
  let client: TestCertificate;
  const open: AsyncDisposable[] = [];
  const hosts = new Map<string, string>();
  const images = new Map<string, TestImage>();

  const keep = <T extends AsyncDisposable>(resource: T): T => {
    open.push(resource);
    return resource;
  };
  const certs = (): string => directory.join("etc/docker/certs.d");

  beforeAll(async () => {
    directory = await TemporaryDirectory.make();
    authority = await TestAuthority.make(directory);
    const server = await authority.sign("server");
    client = await authority.sign("client");
    // Tokens are signed by the one that the registry has in its bundle.
    const signer = {
      certificate: directory.join("signer.pem"),
      key: directory.join("signer.key"),
    };
    await TestAuthority.make(directory, "signer");
    await writeFile(directory.join("htpasswd"), HTPASSWD);
    const origin = keep(await RealRegistry.start(directory));
    for (const compression of COMPRESSIONS) await pushAll(origin, compression);
    const { root } = origin;
    for (const transport of TRANSPORTS) {
      const isSecure = transport === "TLS";
      const tokens = keep(
        await TokenServer.start({ user: USER, signer, tls: isSecure ? server : undefined }),
      );
      const tls = `{certificate: ${server.certificate}, key: ${server.key}, clientcas: [${authority.certificate}]}`;
      for (const login of LOGINS) {
        const auth = {
          none: {},
          basic: { auth: `{htpasswd: {realm: r, path: ${directory.join("htpasswd")}}}` },
          token: { auth: tokens.auth },
        }[login];
        const options = { root, ...auth, ...(isSecure ? { tls } : {}) };
        const { host } = keep(await RealRegistry.start(directory, options));
        hosts.set(`${transport} ${login}`, host);
        if (isSecure) await writeCerts(certs(), host, { authority, client });
      }
    }
    await logInto([...hosts.values()]);
  });

  afterAll(async () => {
    for (const resource of open) await resource[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  async function logInto(names: readonly string[]): Promise<void> {
    const auth = Buffer.from(USER).toString("base64");
    const auths = Object.fromEntries(names.map((host) => [host, { auth }]));
    await mkdir(directory.join("home/.docker"), { recursive: true });
    await writeFile(directory.join("home/.docker/config.json"), JSON.stringify({ auths }));
  }

  async function pushAll(registry: RealRegistry, compression: (typeof COMPRESSIONS)[number]): Promise<void> {
    for (const kind of KINDS) {
      const layers = [await layerOf(`${kind} ${compression}`, compression, kind === "docker")];
      const image = makeImage({ docker: kind === "docker", layers });
      images.set(`${kind} ${compression}`, image);
      const target = { name: `${kind}/${compression}`, tag: "1" };
      await registry.push(image, target);
      if (kind === "docker" || kind === "oci") continue;
      const index = makeIndex([
        { manifest: image.manifest, platform: { os: "linux", architecture: "amd64" } },
      ]);
      const root = kind === "index" ? index : makeIndex([{ manifest: index }]);
      for (const manifest of [index, root]) await registry.pushManifest(manifest, { name: target.name });
      await registry.pushManifest(root, target);
    }
  }

  async function layerOf(
    seed: string,
    compression: (typeof COMPRESSIONS)[number],
    isDocker: boolean,
  ): Promise<Layer> {
    const content = tar([
      { name: "file", content: noise(150_000, seed) },
      { name: "zeros", content: Buffer.alloc(70_000) },
    ]);
    const base = isDocker
      ? "application/vnd.docker.image.rootfs.diff.tar"
      : "application/vnd.oci.image.layer.v1.tar";
    const joint = isDocker ? "." : "+";
    switch (compression) {
      case "none":
        return { bytes: content, tar: content, mediaType: base };
      case "gzip":
        return { ...gzipLayer(content), mediaType: `${base}${joint}gzip` };
      case "multi-gzip": {
        const members = [0, 1, 2].map((part) =>
          gzipSync(content.subarray(part * 70_000, part === 2 ? undefined : (part + 1) * 70_000)),
        );
        return { bytes: Buffer.concat(members), tar: content, mediaType: `${base}${joint}gzip` };
      }
      case "zstd": {
        const [from, to] = [directory.join(`${seed}.tar`), directory.join(`${seed}.zst`)];
        await writeFile(from, content);
        await runProgram("zstd", ["-q", from, "-o", to]);
        return { bytes: await readFile(to), tar: content, mediaType: `${base}${joint}zstd` };
      }
    }
  }

  function store(name: string): Images {
    return new Images({
      root: directory.join("stores", name),
      env: { HOME: directory.join("home"), PATH: process.env["PATH"] },
      etcDirectory: directory.join("etc"),
      firstRetryDelayMs: 1,
      idleTimeoutMs: 5000,
    });
  }

  async function expectWhole(target: Images, reference: string, image: TestImage): Promise<void> {
    const local = await target.obtain(reference, { pull: "always", platform: "linux/amd64" });
    expect(local.manifestDigest).toBe(image.manifest.digest);
    for (const [index, layer] of local.layers.entries()) {
      expect((await collect(target.openLayer(layer))).equals(image.tars[index] ?? Buffer.alloc(0))).toBe(
        true,
      );
    }
  }

  const imageOf = (kind: string, compression: string): TestImage => {
    const image = images.get(`${kind} ${compression}`);
    if (image === undefined) throw new Error("it has been pushed");
    return image;
  };
  const hostOf = (transport: string, login: string): string => hosts.get(`${transport} ${login}`) ?? "";

  const sites = TRANSPORTS.flatMap((transport) => LOGINS.map((login) => [transport, login] as const));

  describe.each(sites)("over %s, login %s", (transport, login) => {
    it.each(KINDS.flatMap((kind) => COMPRESSIONS.map((compression) => [kind, compression] as const)))(
      "gives %s in %s",
      async (kind, compression) => {
        const target = store(`${transport} ${login}`);
        await expectWhole(
          target,
          `${hostOf(transport, login)}/${kind}/${compression}:1`,
          imageOf(kind, compression),
        );
      },
    );

    it.each([1, 2, 3])("gives an index through a line that breaks at random bytes, seed %i", async (seed) => {
      const random = randomNumbers(seed);
      let rest = 5;
      const proxy = keep(
        await CuttingProxy.start(hostOf(transport, login), () => {
          rest -= 1;
          // Half of them in the greeting or the head of an answer.
          return rest < 0 ? undefined : Math.floor(random() * (random() < 0.5 ? 6000 : 120_000));
        }),
      );
      if (transport === "TLS") await writeCerts(certs(), proxy.host, { authority, client });
      await logInto([...hosts.values(), proxy.host]);
      const target = store(`broken ${transport} ${login} ${seed}`);
      await expectWhole(target, `${proxy.host}/nested/gzip:1`, imageOf("nested", "gzip"));
      expect(proxy.cuts).toBeGreaterThan(0);
    });
  });

  it.each([
    ["an authority that is not known", { client: true }, /self.signed|unable to/i],
    ["no client certificate", { authority: true }, /certificate required|bad certificate/i],
  ])("is refused over TLS with %s", async (_name, has, message) => {
    const line = keep(await CuttingProxy.start(hostOf("TLS", "none"), () => undefined));
    await writeCerts(certs(), line.host, {
      ...("authority" in has ? { authority } : { authority: await TestAuthority.make(directory, "other") }),
      ...("client" in has ? { client } : {}),
    });
    await expect(
      store("refused").obtain(`${line.host}/oci/none:1`, { pull: "always" }),
    ).rejects.toMatchObject({
      code: "REGISTRY_UNREACHABLE",
      message: expect.stringMatching(message),
      hint: expect.stringContaining("certs.d"),
    });
  });

  describe("what a real registry passes on", () => {
    async function pushWith(
      name: string,
      change: (layer: Layer) => { layer: Layer; size?: number },
    ): Promise<{ reference: string; layer: Blob }> {
      const registry = open[0];
      if (!(registry instanceof RealRegistry)) throw new Error("the first is the one that takes pushes");
      const { layer, size } = change(gzipLayer(tar([{ name: "x", content: noise(100_000, name) }])));
      const image = makeImage({ layers: [layer] });
      const [part] = image.layers;
      if (part === undefined) throw new Error("it has a layer");
      for (const each of [image.config, part]) await registry.pushBlob(each, { name });
      const manifest = JSON.parse(image.manifest.bytes.toString());
      manifest.layers = [{ ...descriptor(part), size: size ?? part.size }];
      await registry.pushManifest(blob(image.manifest.mediaType, json(manifest)), { name, tag: "1" });
      return { reference: `${registry.host}/${name}:1`, layer: part };
    }

    it.each<[string, (size: number) => number]>([
      ["smaller", (size) => size - 1],
      ["larger", (size) => size + 1],
    ])("a layer that is announced %s is refused by name", async (name, change) => {
      const { reference, layer } = await pushWith(`size/${name}`, (made) => ({
        layer: made,
        size: change(made.bytes.length),
      }));
      await expect(store(`size ${name}`).obtain(reference, { pull: "always" })).rejects.toMatchObject({
        code: "DIGEST_MISMATCH",
        message: expect.stringContaining(layer.digest),
      });
    });

    it.each<[string, (bytes: Buffer) => Buffer]>([
      ["cut off", (bytes) => bytes.subarray(0, -100)],
      ["followed by other bytes", (bytes) => Buffer.concat([bytes, Buffer.from("trailing bytes")])],
      ["followed by half a member", (bytes) => Buffer.concat([bytes, bytes.subarray(0, 500)])],
      ["no gzip at all", (bytes) => noise(bytes.length, "no gzip")],
    ])("a layer that is %s is refused by name when it is opened", async (name, change) => {
      const repository = `stream/${name.replaceAll(" ", "-")}`;
      const { reference, layer } = await pushWith(repository, (made) => ({
        layer: { ...made, bytes: change(made.bytes) },
      }));
      const target = store(repository);
      const local = await target.obtain(reference, { pull: "always" });
      const [first] = local.layers;
      if (first === undefined) throw new Error("it has a layer");
      await expect(collect(target.openLayer(first))).rejects.toMatchObject({
        code: expect.stringMatching(/LAYER_INVALID|DIGEST_MISMATCH/),
        message: expect.stringContaining(layer.digest),
      });
    });
  });
});

/** The same numbers for the same seed, https://en.wikipedia.org/wiki/Linear_congruential_generator */
function randomNumbers(seed: number): () => number {
  let state = seed * 7919;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
