import { randomUUID, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import { collect } from "../../image.test-helper.ts";
import type { TestCertificate } from "./certificates.test-helper.ts";

const ISSUER = "firectl test issuer";
const SERVICE = "firectl test service";

export interface TokenServerOptions {
  /** `user:password`. */
  readonly user: string;
  /** What tokens are signed with; the registry trusts it. */
  readonly signer: TestCertificate;
  /** Speak HTTPS with this. */
  readonly tls?: TestCertificate | undefined;
  readonly lifetimeS?: number;
  /** Give an identity token to whoever asks for one. */
  readonly offersIdentityTokens?: boolean;
}

/**
 * A token server that real registries believe.
 * https://distribution.github.io/distribution/spec/auth/jwt/
 */
export class TokenServer implements AsyncDisposable {
  readonly requests: { method: string; url: URL; authorization: string | undefined; body: string }[] = [];
  readonly #server: http.Server | https.Server;
  readonly #options: TokenServerOptions;
  readonly #chain: string;
  readonly #key: string;
  readonly #identityTokens = new Set<string>();

  private constructor(
    server: http.Server | https.Server,
    options: TokenServerOptions,
    signer: { chain: string; key: string },
  ) {
    this.#server = server;
    this.#options = options;
    this.#chain = signer.chain;
    this.#key = signer.key;
  }

  static async start(options: TokenServerOptions): Promise<TokenServer> {
    const { tls, signer } = options;
    const server =
      tls === undefined
        ? http.createServer()
        : https.createServer({ cert: await readFile(tls.certificate), key: await readFile(tls.key) });
    const chain = new X509Certificate(await readFile(signer.certificate)).raw.toString("base64");
    const instance = new TokenServer(server, options, { chain, key: await readFile(signer.key, "utf8") });
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      instance.#answer(request, response).catch(() => response.destroy());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return instance;
  }

  get host(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("it listens on a port");
    return `127.0.0.1:${address.port}`;
  }

  /** The `auth:` section of a registry that believes this server. */
  get auth(): string {
    const scheme = this.#options.tls === undefined ? "http" : "https";
    return `{token: {realm: "${scheme}://${this.host}/token", service: "${SERVICE}", issuer: "${ISSUER}", rootcertbundle: "${this.#options.signer.certificate}"}}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", "http://x");
    const body = (await collect(request)).toString();
    const { authorization } = request.headers;
    this.requests.push({ method: request.method ?? "", url, authorization, body });
    const form = request.method === "POST" ? new URLSearchParams(body) : url.searchParams;
    const expected = `Basic ${Buffer.from(this.#options.user).toString("base64")}`;
    const isKnown =
      request.method === "POST"
        ? form.get("grant_type") === "refresh_token" &&
          this.#identityTokens.has(form.get("refresh_token") ?? "")
        : authorization === expected;
    if (!isKnown && (request.method === "POST" || authorization !== undefined)) {
      response.writeHead(401).end('{"details":"incorrect username or password"}');
      return;
    }
    const token = this.#token(form.getAll("scope"), isKnown);
    const { lifetimeS = 300, offersIdentityTokens = false } = this.#options;
    const isOffline = offersIdentityTokens && isKnown && form.get("offline_token") === "true";
    const identity = isOffline ? { refresh_token: this.#identityToken() } : {};
    response.end(JSON.stringify({ token, access_token: token, expires_in: lifetimeS, ...identity }));
  }

  #identityToken(): string {
    const token = randomUUID();
    this.#identityTokens.add(token);
    return token;
  }

  /** Whoever is not known gets a token that allows nothing. */
  #token(scopes: readonly string[], isKnown: boolean): string {
    const access = scopes.map((scope) => {
      const [type, name, actions = ""] = scope.split(":");
      return { type, name, actions: isKnown ? actions.split(",") : [] };
    });
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      ...{ iss: ISSUER, sub: "x", aud: SERVICE, jti: randomUUID(), access },
      ...{ iat: now, nbf: now - 10, exp: now + (this.#options.lifetimeS ?? 300) },
    };
    const header = { typ: "JWT", alg: "ES256", x5c: [this.#chain] };
    const text = [header, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .join(".");
    const signature = sign("sha256", Buffer.from(text), { key: this.#key, dsaEncoding: "ieee-p1363" });
    return `${text}.${signature.toString("base64url")}`;
  }
}
