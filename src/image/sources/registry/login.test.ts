import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../../host/process.ts";
import { hasTool, makeImage, TemporaryDirectory } from "../../image.test-helper.ts";
import { RealRegistry, serveImage, TestServer } from "../../registry.test-helper.ts";
import { TestAuthority } from "./certificates.test-helper.ts";
import { eraseLogin, storeLogin } from "./credential-store.ts";
import { findCredentials } from "./credentials.ts";
import { logIn, logOut, registryDomain } from "./login.ts";
import { pull } from "./pull.test-helper.ts";
import { TokenServer } from "./token-server.test-helper.ts";

const image = makeImage();
const basic = (text: string): string => Buffer.from(text).toString("base64");

/** A credential helper that keeps what it is given in files, as `pass` does. */
const HELPER = `#!/bin/sh
dir=$(dirname "$0")/kept
mkdir -p "$dir"
case $1 in
store) cat >"$dir/in"; mv "$dir/in" "$dir/$(sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/;s,/,_,g' "$dir/in")" ;;
get) f=$dir/$(sed 's,/,_,g'); [ -f "$f" ] && cat "$f" || { echo credentials not found in native keychain; exit 1; } ;;
erase) rm "$dir/$(sed 's,/,_,g')" ;;
esac
`;

async function home(files: Readonly<Record<string, unknown>> = {}): Promise<{
  directory: TemporaryDirectory;
  env: NodeJS.ProcessEnv;
  config: () => Promise<Record<string, unknown>>;
}> {
  const directory = await TemporaryDirectory.make();
  const all = { "bin/docker-credential-safe": HELPER, ...files };
  for (const [name, value] of Object.entries(all)) {
    const file = directory.join(name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, typeof value === "string" ? value : JSON.stringify(value));
    if (name.startsWith("bin/")) await chmod(file, 0o755);
  }
  return {
    directory,
    env: { HOME: directory.path, PATH: `${directory.join("bin")}:${process.env["PATH"]}` },
    config: async () => JSON.parse(await readFile(directory.join(".docker/config.json"), "utf8")),
  };
}

const password = { kind: "password", username: "me", password: "p:w" } as const;

describe("registryDomain", () => {
  it.each([
    [undefined, "docker.io"],
    ["docker.io", "docker.io"],
    ["https://index.docker.io/v1/", "docker.io"],
    ["registry-1.docker.io", "docker.io"],
    ["ghcr.io", "ghcr.io"],
    ["https://ghcr.io/owner", "ghcr.io"],
    ["localhost:5000", "localhost:5000"],
    ["http://localhost:5000/", "localhost:5000"],
    ["[::1]:5000", "[::1]:5000"],
  ])("%s: %s", (text, expected) => {
    expect(registryDomain(text)).toBe(expected);
  });

  it.each([
    [""],
    ["https://"],
    ["library"],
    ["a b.example"],
    ["user@host.example"],
    ["host.example:port"],
    ["../x.y"],
  ])("refuses %j", (text) => {
    expect(() => registryDomain(text)).toThrow(/is not a registry/);
  });
});

describe("storeLogin", () => {
  it("makes the file, for its owner alone", async () => {
    const { directory, env, config } = await home();
    await using _ = directory;
    expect(await storeLogin("quay.io", { username: "me", credentials: password }, { env })).toEqual({
      place: directory.join(".docker/config.json"),
      isPlain: true,
    });
    expect(await config()).toEqual({ auths: { "quay.io": { auth: basic("me:p:w") } } });
    expect((await stat(directory.join(".docker/config.json"))).mode & 0o777).toBe(0o600);
    expect(await readdir(directory.join(".docker"))).toEqual(["config.json"]);
    const found = await findCredentials({ domain: "quay.io", path: "a/b" }, { env });
    expect(found.credentials).toEqual(password);
  });

  it("keeps all else in the file, what firectl does not know too", async () => {
    const before = {
      HttpHeaders: { "X-Meta": "1" },
      auths: {
        "ghcr.io": { auth: basic("a:b"), email: "x@y" },
        "https://quay.io/v1/": { auth: basic("old:old") },
      },
      psFormat: "{{.ID}}",
      plugins: { debug: { hooks: "exec" } },
    };
    const { directory, env, config } = await home({ ".docker/config.json": before });
    await using _ = directory;
    await storeLogin("quay.io", { username: "me", credentials: password }, { env });
    expect(await config()).toEqual({
      ...before,
      auths: { "ghcr.io": before.auths["ghcr.io"], "quay.io": { auth: basic("me:p:w") } },
    });
  });

  it("writes through a link", async () => {
    const { directory, env, config } = await home({ "elsewhere/config.json": "{}" });
    await using _ = directory;
    await mkdir(directory.join(".docker"));
    await symlink(directory.join("elsewhere/config.json"), directory.join(".docker/config.json"));
    await storeLogin("docker.io", { username: "me", credentials: password }, { env });
    expect(await readFile(directory.join("elsewhere/config.json"), "utf8")).toContain("index.docker.io/v1/");
    expect(Object.keys((await config())["auths"] as object)).toEqual(["https://index.docker.io/v1/"]);
  });

  it.each([
    ["DOCKER_CONFIG", "d", "d/config.json"],
    ["REGISTRY_AUTH_FILE", "mine.json", "mine.json"],
  ])("goes where $%s says", async (variable, value, file) => {
    const { directory, env } = await home();
    await using _ = directory;
    const options = { env: { ...env, [variable]: directory.join(value) } };
    await storeLogin("quay.io", { username: "me", credentials: password }, options);
    expect(await readFile(directory.join(file), "utf8")).toContain(basic("me:p:w"));
    expect(await eraseLogin("quay.io", options)).toEqual([directory.join(file)]);
  });

  it.each<[string, object]>([
    ["the store", { credsStore: "safe" }],
    ["its registry's helper", { credsStore: "absent", credHelpers: { "quay.io": "safe" } }],
  ])("gives it to %s, and leaves no secret in the file", async (_name, before) => {
    const { directory, env, config } = await home({
      ".docker/config.json": { ...before, auths: { "quay.io": { auth: basic("old:secret") } } },
    });
    await using _ = directory;
    const stored = await storeLogin("quay.io", { username: "me", credentials: password }, { env });
    expect(stored).toEqual({ place: "docker-credential-safe", isPlain: false });
    expect(await config()).toEqual({ ...before, auths: { "quay.io": {} } });
    const find = (): ReturnType<typeof findCredentials> =>
      findCredentials({ domain: "quay.io", path: "a" }, { env });
    expect((await find()).credentials).toEqual(password);
    expect(await eraseLogin("quay.io", { env })).toEqual(["docker-credential-safe"]);
    expect(await config()).toEqual({ ...before, auths: {} });
    expect((await find()).credentials).toBeUndefined();
    expect(await eraseLogin("quay.io", { env })).toEqual([]);
  });

  it("keeps to the file where an empty name takes the registry out of the store", async () => {
    const before = { credsStore: "absent", credHelpers: { "quay.io": "" } };
    const { directory, env, config } = await home({ ".docker/config.json": before });
    await using _ = directory;
    await storeLogin("quay.io", { username: "me", credentials: password }, { env });
    expect(await config()).toEqual({ ...before, auths: { "quay.io": { auth: basic("me:p:w") } } });
    expect((await findCredentials({ domain: "quay.io", path: "a" }, { env })).credentials).toEqual(password);
  });

  it("keeps an identity token in the password's place", async () => {
    const { directory, env, config } = await home();
    await using _ = directory;
    const credentials = { kind: "identity-token", token: "t" } as const;
    await storeLogin("quay.io", { username: "me", credentials }, { env });
    expect(await config()).toEqual({ auths: { "quay.io": { auth: basic("me:"), identitytoken: "t" } } });
  });

  it.each([['{"auths": [}'], ['{"auths": {"quay.io": {"auth": 5}}}'], ["[]"]])(
    "leaves a file alone that is no credential file: %s",
    async (text) => {
      const { directory, env } = await home({ ".docker/config.json": text });
      await using _ = directory;
      const storing = storeLogin("quay.io", { username: "me", credentials: password }, { env });
      await expect(storing).rejects.toMatchObject({ code: "INVALID_CONFIGURATION" });
      expect(await readFile(directory.join(".docker/config.json"), "utf8")).toBe(text);
    },
  );
});

describe("eraseLogin", () => {
  it("takes every entry of the registry, and no other", async () => {
    const { directory, env, config } = await home({
      ".docker/config.json": {
        auths: {
          "quay.io": { auth: basic("a:b") },
          "https://quay.io/v2/": { auth: basic("a:b") },
          "http://quay.io": { auth: basic("a:b") },
          "quay.io/team": { auth: basic("team:b") },
          "quay.io.example": { auth: basic("other:b") },
        },
        x: 1,
      },
    });
    await using _ = directory;
    expect(await eraseLogin("quay.io", { env })).toEqual([directory.join(".docker/config.json")]);
    expect(await config()).toEqual({
      auths: { "quay.io/team": { auth: basic("team:b") }, "quay.io.example": { auth: basic("other:b") } },
      x: 1,
    });
  });

  it("makes no file where there is none", async () => {
    const { directory, env } = await home();
    await using _ = directory;
    expect(await eraseLogin("docker.io", { env })).toEqual([]);
    expect(await readdir(directory.path)).toEqual(["bin"]);
  });

  it("leaves what another file has, and says so", async () => {
    const { directory, env } = await home({
      ".docker/config.json": { auths: { "quay.io": { auth: basic("a:b") } } },
      ".config/containers/auth.json": { auths: { "quay.io": { auth: basic("podman:b") } } },
    });
    await using _ = directory;
    expect(await logOut("quay.io", { env })).toEqual({
      removedFrom: [directory.join(".docker/config.json")],
      isStillKnown: true,
    });
  });
});

describe("logIn", () => {
  it.each([
    ["basic", "Basic realm=x"],
    ["nothing", undefined],
  ])("asks a registry that wants %s before it writes", async (_name, challenge) => {
    await using server = await TestServer.start((request, response) => {
      const { authorization } = request.headers;
      if (
        authorization === `Basic ${basic("me:p:w")}` ||
        (authorization === undefined && challenge === undefined)
      ) {
        response.end("{}");
      } else response.writeHead(401, { "www-authenticate": challenge ?? "Basic" }).end();
    });
    const { directory, env, config } = await home();
    await using _ = directory;
    await expect(logIn(server.host, { username: "me", password: "s3cret" }, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: `${server.host} refuses the login`,
    });
    expect(await readdir(directory.path)).toEqual(["bin"]);
    await logIn(server.host, { username: "me", password: "p:w" }, { env });
    expect(await config()).toEqual({ auths: { [server.host]: { auth: basic("me:p:w") } } });
    // The one that is known, now.
    expect(await logIn(server.host, undefined, { env })).toBeUndefined();
  });

  it.each([
    ["", "x"],
    ["a:b", "x"],
    ["a\nb", "x"],
    ["a", ""],
    ["a", "x\r\ny"],
  ])("refuses the user %j with the password %j", async (username, secret) => {
    await expect(logIn("127.0.0.1:1", { username, password: secret }, { env: {} })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });

  it("says that no login is known, or that it cannot be read", async () => {
    const { directory, env } = await home({ ".docker/config.json": { credsStore: "absent" } });
    await using _ = directory;
    await expect(logIn("127.0.0.1:1", undefined, { env: { HOME: "/nonexistent" } })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: expect.stringContaining("no login for 127.0.0.1:1 is known"),
    });
    await expect(logIn("127.0.0.1:1", undefined, { env })).rejects.toThrow(/docker-credential-absent/);
  });

  it("tells no login to a token server of another site, unless that is named", async () => {
    await using tokens = await TestServer.start((_request, response) => void response.end('{"token":"t"}'));
    const elsewhere = tokens.host.replace("127.0.0.1", "localhost");
    await using server = await TestServer.start((request, response) => {
      if (request.headers.authorization === "Bearer t") response.end("{}");
      else response.writeHead(401, { "www-authenticate": `Bearer realm="http://${elsewhere}/token"` }).end();
    });
    const { directory, env } = await home();
    await using _ = directory;
    const login = { username: "me", password: "pw" };
    await expect(logIn(server.host, login, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
      message: expect.stringContaining(`${elsewhere} is of another site`),
      hint: expect.stringContaining("registryTokenServers"),
    });
    expect(tokens.requests).toEqual([]);
    await logIn(server.host, login, { env, registryTokenServers: { [server.host]: [elsewhere] } });
    expect(tokens.requests[0]?.authorization).toBe(`Basic ${basic("me:pw")}`);
  });
});

it("a pull tells a named token server of another site the login", async () => {
  await using tokens = await TestServer.start((_request, response) => void response.end('{"token":"t"}'));
  const elsewhere = tokens.host.replace("127.0.0.1", "localhost");
  const serve = serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] });
  await using server = await TestServer.start((request, response) => {
    if (request.headers.authorization === "Bearer t") return serve(request, response);
    response.writeHead(401, { "www-authenticate": `Bearer realm="http://${elsewhere}/token"` }).end();
  });
  const { directory, env } = await home();
  await using _ = directory;
  await storeLogin(server.host, { username: "me", credentials: password }, { env });
  for (const tokenServers of [{}, { [server.host]: ["localhost"] }]) {
    await pull(directory, `${server.host}/a:1`, { env, tokenServers });
  }
  const told = tokens.requests.map(({ authorization }) => authorization);
  expect(told).toEqual([undefined, `Basic ${basic("me:p:w")}`]);
});

const missing = (await Promise.all(["docker-registry", "openssl"].map(hasTool))).includes(false);

describe.skipIf(missing)("a registry with a token server (needs docker-registry, openssl)", () => {
  let shared: TemporaryDirectory;
  let tokens: TokenServer;
  let registry: RealRegistry;
  beforeAll(async () => {
    shared = await TemporaryDirectory.make();
    await TestAuthority.make(shared, "signer");
    const signer = { certificate: shared.join("signer.pem"), key: shared.join("signer.key") };
    tokens = await TokenServer.start({ user: "me:pw", signer, offersIdentityTokens: true });
    await using open = await RealRegistry.start(shared);
    await open.push(image, { name: "a/b", tag: "1" });
    registry = await RealRegistry.start(shared, { root: open.root, auth: tokens.auth });
  });
  afterAll(async () => {
    await registry[Symbol.asyncDispose]();
    await tokens[Symbol.asyncDispose]();
    await shared[Symbol.asyncDispose]();
  });

  it("gives an identity token, with which pulls go on", async () => {
    const { directory, env, config } = await home();
    await using _ = directory;
    await expect(pull(directory, `${registry.host}/a/b:1`, { env })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
    });
    const wrong = logIn(registry.host, { username: "me", password: "s3cret" }, { env });
    await expect(wrong).rejects.toMatchObject({ code: "AUTHENTICATION_FAILED" });
    await logIn(registry.host, { username: "me", password: "pw" }, { env });
    const { auth, identitytoken } =
      ((await config())["auths"] as Record<string, Record<string, string>>)[registry.host] ?? {};
    expect(auth).toBe(basic("me:"));
    expect(identitytoken).toMatch(/^[0-9a-f-]{36}$/);
    tokens.requests.length = 0;
    await pull(directory, `${registry.host}/a/b:1`, { env });
    expect(tokens.requests.map(({ method }) => method)).toEqual(["POST"]);
    expect(tokens.requests[0]?.body).toContain("scope=repository%3Aa%2Fb%3Apull");
    await logIn(registry.host, undefined, { env });
    await logOut(registry.host, { env });
    await expect(logIn(registry.host, undefined, { env })).rejects.toThrow(/no login/);
  });
});

describe("a token that expires in the middle of a blob", () => {
  it("is renewed, with the identity token that came last, and the blob gone on with", async () => {
    await using directory = await TemporaryDirectory.make();
    const [layer] = image.layers;
    if (layer === undefined) throw new Error("it has a layer");
    let valid = "";
    let identity = "first";
    const serve = serveImage({ root: image.manifest, blobs: [image.config, ...image.layers] });
    await using server: TestServer = await TestServer.start(async (request, response) => {
      if (request.url === "/token") {
        let form = "";
        for await (const chunk of request) form += chunk;
        if (new URLSearchParams(form).get("refresh_token") !== identity) {
          response.writeHead(401).end();
          return;
        }
        valid = `access-${Math.random()}`;
        identity = `next-${identity}`;
        response.end(JSON.stringify({ access_token: valid, refresh_token: identity, expires_in: 0 }));
        return;
      }
      if (request.headers.authorization !== `Bearer ${valid}`) {
        const challenge = `Bearer realm="http://${server.host}/token",service="s"`;
        response.writeHead(401, { "www-authenticate": challenge }).end();
        return;
      }
      if (request.url?.endsWith(layer.digest) === true && request.headers.range === undefined) {
        response.writeHead(200, { "content-length": layer.size });
        valid = "none";
        response.write(layer.bytes.subarray(0, 40), () => response.destroy());
        return;
      }
      await serve(request, response);
    });
    const auths = { [server.host]: { identitytoken: "first" } };
    await mkdir(directory.join("home/.docker"), { recursive: true });
    await writeFile(directory.join("home/.docker/config.json"), JSON.stringify({ auths }));
    await pull(directory, `${server.host}/a:1`);
    const asked = server.requests.filter(({ url }) => url.endsWith(layer.digest)).map(({ range }) => range);
    // Whole, then the rest with the old token, then with the new one.
    expect(asked).toEqual([undefined, `bytes=40-${layer.size - 1}`, `bytes=40-${layer.size - 1}`]);
    expect(identity).toBe("next-next-first");
  });
});

const noSkopeo = (await Promise.all(["docker-registry", "skopeo"].map(hasTool))).includes(false);

describe.skipIf(noSkopeo)("skopeo and firectl (needs docker-registry, skopeo)", () => {
  it("read each other's logins", async () => {
    const { directory, env } = await home();
    await using _ = directory;
    // "user" with the password "s3cret:x".
    const hash = "user:$2y$04$abcdefghijklmnopqrstuuh51NQfZBCY2nUs1Btlpp7LsFp/mk44C\n";
    await writeFile(directory.join("htpasswd"), hash);
    await using registry = await RealRegistry.start(directory, {
      auth: `{htpasswd: {realm: r, path: ${directory.join("htpasswd")}}}`,
    });
    const authorization = `Basic ${basic("user:s3cret:x")}`;
    await registry.push(image, { name: "a/b", tag: "1", authorization });
    const skopeo = (...args: readonly string[]): Promise<string> => runProgram("skopeo", args, { env });
    const file = directory.join("auth.json");
    const own = { ...env, REGISTRY_AUTH_FILE: file };
    await logIn(registry.host, { username: "user", password: "s3cret:x" }, { env: own });
    const inspect = ["inspect", "--tls-verify=false", "--authfile", file, `docker://${registry.host}/a/b:1`];
    expect(JSON.parse(await skopeo(...inspect))).toMatchObject({ Digest: image.manifest.digest });
    await logOut(registry.host, { env: own });
    await expect(skopeo(...inspect)).rejects.toThrow(/auth/);
    const login = ["login", "--tls-verify=false", "--authfile", file, "-u", "user", "-p", "s3cret:x"];
    // A repository's own entry, which Docker does not know.
    await skopeo(...login, `${registry.host}/a`);
    await pull(directory, `${registry.host}/a/b:1`, { env: own });
    await expect(pull(directory, `${registry.host}/other:1`, { env: own })).rejects.toMatchObject({
      code: "AUTHENTICATION_FAILED",
    });
  });
});
