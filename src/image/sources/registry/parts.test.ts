import { chmod, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { FirectlError } from "../../../core/errors.ts";
import { TemporaryDirectory } from "../../image.test-helper.ts";
import { parseChallenges } from "./challenge.ts";
import { findCredentials } from "./credentials.ts";
import { insecureRegistries } from "./insecure.ts";
import { parseRetryAfter, TransientFailure, withRetries } from "./retry.ts";
import { isSameSite } from "./same-site.ts";

describe("parseChallenges", () => {
  it.each<[string, readonly [string, Record<string, string>][]]>([
    ['Basic realm="Registry"', [["basic", { realm: "Registry" }]]],
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push"',
      [
        [
          "bearer",
          {
            realm: "https://auth.docker.io/token",
            service: "registry.docker.io",
            scope: "repository:a:pull,push",
          },
        ],
      ],
    ],
    ["bearer Realm = https://a/b , service=x", [["bearer", { realm: "https://a/b", service: "x" }]]],
    ['Bearer realm="a\\"b"', [["bearer", { realm: 'a"b' }]]],
    [
      'Negotiate, Basic realm="x", Bearer realm="y"',
      [
        ["negotiate", {}],
        ["basic", { realm: "x" }],
        ["bearer", { realm: "y" }],
      ],
    ],
    ["", []],
    ['Bearer realm="unclosed', [["bearer", { realm: "" }]]],
    ["=", []],
    [`Bearer realm="${"x".repeat(9000)}"`, []],
  ])("reads %j", (header, expected) => {
    const found = parseChallenges(header).map(({ scheme, parameters }) => [
      scheme,
      Object.fromEntries(parameters),
    ]);
    expect(found).toEqual(expected);
  });

  // Backtracking would take longer than a test may.
  it.each([
    [`Bearer ${"\\".repeat(8000)}`, 1],
    [`Bearer a="${"\\".repeat(8000)}`, 1],
    ["a ".repeat(4000), 4000],
    [`a${" ".repeat(8000)}`, 1],
  ])("has an end for a hostile one (%#)", (header, challenges) => {
    expect(parseChallenges(header)).toHaveLength(challenges);
  });
});

describe("parseRetryAfter", () => {
  const now = Date.UTC(2026, 0, 1);
  it.each([
    ["3", 3000],
    ["0", 0],
    ["Thu, 01 Jan 2026 00:00:05 GMT", 5000],
    ["Wed, 31 Dec 2025 00:00:05 GMT", 0],
    ["soon", undefined],
    ["-1", undefined],
    [undefined, undefined],
  ])("reads %j", (header, expected) => {
    // Date.parse takes "-1" for a year.
    if (header === "-1") expect(parseRetryAfter(header, now)).not.toBeGreaterThan(0);
    else expect(parseRetryAfter(header, now)).toBe(expected);
  });
});

describe("withRetries", () => {
  const failure = new FirectlError("REGISTRY_REFUSED", "no");

  it("tries again only what is transient, and as often as it may", async () => {
    const delays: number[] = [];
    let count = 0;
    const options = {
      attempts: 3,
      firstDelayMs: 10,
      onRetry: (_: string, ms: number) => void delays.push(ms),
    };
    const attempt = (): Promise<never> => {
      count += 1;
      throw new TransientFailure(failure);
    };
    await expect(withRetries(options, attempt)).rejects.toBe(failure);
    expect(count).toBe(3);
    expect(delays[0]).toBeGreaterThanOrEqual(10);
    expect(delays[1]).toBeGreaterThanOrEqual(20);
    await expect(withRetries(options, () => Promise.reject(failure))).rejects.toBe(failure);
  });

  it("gives up at once when it is asked to wait for too long", async () => {
    const attempt = (): Promise<never> => Promise.reject(new TransientFailure(failure, 121_000));
    await expect(withRetries({ attempts: 9, firstDelayMs: 1 }, attempt)).rejects.toBe(failure);
  });

  it("stops waiting when it is aborted", async () => {
    const signal = AbortSignal.timeout(20);
    const attempt = (): Promise<never> => Promise.reject(new TransientFailure(failure, 100_000));
    await expect(withRetries({ attempts: 9, firstDelayMs: 1, signal }, attempt)).rejects.toThrow(/timeout/);
  });
});

describe("isSameSite", () => {
  it.each([
    ["auth.docker.io", "registry-1.docker.io", true],
    ["auth.docker.io", "docker.io", true],
    ["gitlab.com", "registry.gitlab.com", true],
    ["example.com", "example.com", true],
    ["localhost", "localhost", true],
    ["evil.com", "example.com", false],
    ["example.com.evil.net", "example.com", false],
    ["notdocker.io", "docker.io", false],
    ["10.0.0.1", "10.0.0.1", true],
    ["9.0.0.1", "10.0.0.1", false],
    ["[::2]", "[::1]", false],
    ["com", "example.com", false],
    ["auth.example.co.uk", "registry.example.co.uk", true],
    ["evil.co.uk", "example.co.uk", false],
    ["evil.azurecr.io", "mine.azurecr.io", false],
    ["evil-123-uc.a.run.app", "registry-456-uc.a.run.app", false],
    ["evil.s3.eu-central-1.amazonaws.com", "mine.dkr.ecr.eu-central-1.amazonaws.com", false],
    ["mine.azurecr.io", "mine.azurecr.io", true],
    ["auth.run.app.example.com", "registry.run.app.example.com", true],
    ["evil.co.jp", "co.jp", false],
  ])("%s for %s: %s", (realm, registry, expected) => {
    expect(isSameSite(realm, registry)).toBe(expected);
  });
});

describe("insecureRegistries", () => {
  it.each([
    ["localhost", true],
    ["localhost:5000", true],
    ["127.0.0.1:5000", true],
    ["127.9.9.9", true],
    ["[::1]:5000", true],
    ["mine.example:5000", true],
    ["MINE.example:5000", true],
    ["env.example", true],
    ["mine.example", false],
    ["mine.example:5001", false],
    ["10.2.3.4:5000", true],
    ["10.3.3.4:5000", false],
    ["10.2.3.4.example", false],
    ["[fd12::1]:5000", true],
    ["[fe80::1]", false],
    ["localhost:7000", false],
    ["127.0.0.1.evil.example", false],
    ["localhost.evil.example", false],
    ["", false],
  ])("%s: %s", (host, expected) => {
    const isInsecure = insecureRegistries(["mine.example:5000", "10.2.0.0/16", "fd00::/8"], {
      env: { FIRECTL_INSECURE_REGISTRIES: "other.example, env.example" },
      hasAuthority: (name) => name === "localhost:7000",
    });
    expect(isInsecure(host)).toBe(expected);
  });

  it.each(["a b", "http://registry.lan", "registry.lan/path", "registry.lan:port", "10.0.0.0/33"])(
    "refuses %j in the environment",
    (entry) => {
      const env = { FIRECTL_INSECURE_REGISTRIES: `good.example:5000, ${entry}` };
      expect(() => insecureRegistries([], { env })).toThrow(
        expect.objectContaining({
          code: "INVALID_CONFIGURATION",
          message: `FIRECTL_INSECURE_REGISTRIES: "${entry}" is not a registry`,
          hint: expect.stringContaining("separated by commas"),
        }),
      );
    },
  );

  it("takes from the environment what has an address, a port, a network, or nothing", () => {
    const isInsecure = insecureRegistries([], {
      env: { FIRECTL_INSECURE_REGISTRIES: "[fd00::1]:5000,,registry_a.lan:80, 10.1.0.0/16," },
    });
    expect(["[fd00::1]:5000", "registry_a.lan:80", "10.1.2.3:5000"].map(isInsecure)).toEqual(
      Array(3).fill(true),
    );
    expect(isInsecure("registry_a.lan")).toBe(false);
  });
});

describe("findCredentials", () => {
  const basic = (text: string): string => Buffer.from(text).toString("base64");

  async function lookUp(
    files: Readonly<Record<string, unknown>>,
    repository: { domain: string; path: string },
    env: NodeJS.ProcessEnv = {},
  ): ReturnType<typeof findCredentials> {
    await using directory = await TemporaryDirectory.make();
    for (const [name, value] of Object.entries(files)) {
      const file = directory.join(name);
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, typeof value === "string" ? value : JSON.stringify(value));
      if (name.startsWith("bin/")) await chmod(file, 0o755);
    }
    const bin = `${directory.join("bin")}:${process.env["PATH"]}`;
    const paths = Object.fromEntries(
      Object.entries(env).map(([name, value]) => [name, directory.join(value ?? "")]),
    );
    return await findCredentials(repository, { env: { HOME: directory.path, PATH: bin, ...paths } });
  }

  const helper = (reply: string, status = 0): string =>
    `#!/bin/sh\ncat >/dev/null\necho '${reply}'\nexit ${status}\n`;
  const password = (username: string, secret: string): object => ({
    kind: "password",
    username,
    password: secret,
  });
  const hub = { domain: "docker.io", path: "library/debian" };
  const quay = { domain: "quay.io", path: "org/team/app" };

  it.each<
    [
      string,
      Record<string, unknown>,
      { domain: string; path: string },
      object | undefined,
      NodeJS.ProcessEnv?,
    ]
  >([
    ["nothing", {}, hub, undefined],
    ["an empty file", { ".docker/config.json": "" }, hub, undefined],
    [
      "Docker Hub's key",
      { ".docker/config.json": { auths: { "https://index.docker.io/v1/": { auth: basic("me:p:w") } } } },
      hub,
      password("me", "p:w"),
    ],
    [
      "a bare host",
      { ".docker/config.json": { auths: { "quay.io": { auth: basic("a:b") } } } },
      quay,
      password("a", "b"),
    ],
    [
      "a host as URL",
      { ".docker/config.json": { auths: { "https://quay.io/v2/": { auth: basic("a:b") } } } },
      quay,
      password("a", "b"),
    ],
    [
      "not another host's",
      { ".docker/config.json": { auths: { "quay.io.evil.example": { auth: basic("a:b") } } } },
      quay,
      undefined,
    ],
    [
      "an identity token",
      { ".docker/config.json": { auths: { "quay.io": { auth: basic("a:"), identitytoken: "t" } } } },
      quay,
      { kind: "identity-token", token: "t" },
    ],
    [
      "$DOCKER_CONFIG",
      { "d/config.json": { auths: { "quay.io": { username: "u", password: "" } } } },
      quay,
      password("u", ""),
      { DOCKER_CONFIG: "d" },
    ],
    [
      "podman's, by namespace, the longest first",
      {
        ".config/containers/auth.json": {
          auths: {
            "quay.io": { auth: basic("host:x") },
            "quay.io/org": { auth: basic("org:x") },
            "quay.io/org/team": { auth: basic("team:x") },
            "quay.io/org/team/app2": { auth: basic("other:x") },
          },
        },
      },
      quay,
      password("team", "x"),
    ],
    [
      "podman's in the run-time directory",
      { "run/containers/auth.json": { auths: { "quay.io": { auth: basic("r:x") } } } },
      quay,
      password("r", "x"),
      { XDG_RUNTIME_DIR: "run" },
    ],
    [
      "$REGISTRY_AUTH_FILE before all",
      {
        mine: { auths: { "quay.io": { auth: basic("mine:x") } } },
        ".docker/config.json": { auths: { "quay.io": { auth: basic("docker:x") } } },
      },
      quay,
      password("mine", "x"),
      { REGISTRY_AUTH_FILE: "mine" },
    ],
    [
      "a store of credentials",
      {
        ".docker/config.json": { credsStore: "safe" },
        "bin/docker-credential-safe": helper('{"ServerURL":"x","Username":"u","Secret":"s"}'),
      },
      quay,
      password("u", "s"),
    ],
    [
      "a helper for one registry, with a token",
      {
        ".docker/config.json": { credsStore: "none", credHelpers: { "quay.io": "safe" } },
        "bin/docker-credential-safe": helper('{"Username":"<token>","Secret":"t"}'),
      },
      quay,
      { kind: "identity-token", token: "t" },
    ],
    [
      "auths, when the store has none",
      {
        ".docker/config.json": { credsStore: "safe", auths: { "quay.io": { auth: basic("a:b") } } },
        "bin/docker-credential-safe": helper("credentials not found in native keychain", 1),
      },
      quay,
      password("a", "b"),
    ],
  ])("finds %s", async (_name, files, repository, expected, env) => {
    const { credentials, problem } = await lookUp(files, repository, env);
    expect(problem).toBeUndefined();
    expect(credentials).toEqual(expected);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      "a broken file",
      { ".docker/config.json": '{"auths":{"quay.io":{"auth":"c2VjcmV0"' },
      /not a credential file/,
    ],
    [
      "a broken auth",
      { ".docker/config.json": { auths: { "quay.io": { auth: basic("secret") } } } },
      /not user:password/,
    ],
    [
      "a missing helper",
      { ".docker/config.json": { credsStore: "absent" } },
      /docker-credential-absent is not installed/,
    ],
    [
      "a helper with a path",
      { ".docker/config.json": { credsStore: "../../bin/sh" } },
      /characters that none has/,
    ],
    [
      "a helper that talks rubbish",
      { ".docker/config.json": { credsStore: "safe" }, "bin/docker-credential-safe": helper("secret") },
      /did not answer with credentials/,
    ],
  ])("tells of %s, without its secret", async (_name, files, expected) => {
    const { credentials, problem } = await lookUp(files, quay);
    expect(credentials).toBeUndefined();
    expect(problem).toMatch(expected);
    expect(problem).not.toMatch(/secret|c2VjcmV0/);
  });
});
