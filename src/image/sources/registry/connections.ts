import http, { type RequestOptions } from "node:http";
import https from "node:https";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import type { HostCertificates } from "./certificates.ts";
import type { ProxyServer } from "./proxy.ts";
import { openTunnel, proxyAuthorization } from "./tunnel.ts";

/** What decides how a host is reached. */
export interface Network {
  /** Whether plain HTTP may be spoken to that host (with its port), and its certificate be any. */
  readonly isInsecure: (host: string) => boolean;
  readonly proxyFor: (url: URL) => ProxyServer | undefined;
  readonly certificatesFor: (url: URL) => HostCertificates | undefined;
  /** All that this user trusts, in PEM; asked for only when Node's own authorities do not do. */
  readonly allAuthorities: () => Promise<readonly string[]>;
}

/** How a request for one URL is sent. */
interface Route {
  readonly request: typeof http.request;
  readonly options: RequestOptions;
  /** Headers that the proxy wants. */
  readonly headers: Readonly<Record<string, string>>;
  readonly proxy: ProxyServer | undefined;
}

/** Kept connections to the origins that a registry sends its users to, straight or through proxies. */
export class Connections implements Disposable {
  readonly #network: Network;
  readonly #agents = new Map<string, http.Agent>();
  /** Authorities that count for an origin instead of Node's own. */
  readonly #authorities = new Map<string, readonly string[]>();
  readonly #disposed = new AbortController();
  readonly #tunnelTimeoutMs: number;

  /** @param options A tunnel that a proxy takes longer to make is given up. */
  constructor(network: Network, options: { tunnelTimeoutMs: number }) {
    this.#network = network;
    this.#tunnelTimeoutMs = options.tunnelTimeoutMs;
  }

  [Symbol.dispose](): void {
    this.#disposed.abort();
    for (const agent of this.#agents.values()) agent.destroy();
  }

  isInsecure(url: URL): boolean {
    const { isInsecure } = this.#network;
    if (isInsecure(url.host)) return true;
    // A URL leaves the usual port out, a user may have written it.
    return url.port === "" && isInsecure(`${url.hostname}:${portOf(url)}`);
  }

  /** The proxy on the way to a URL, for messages. */
  proxyNameFor(url: URL): string | undefined {
    return this.#network.proxyFor(url)?.name;
  }

  /** @throws FirectlError INVALID_CONFIGURATION when the host's certs.d directory is wrong. */
  route(url: URL): Route {
    const proxy = this.#network.proxyFor(url);
    const path = `${url.pathname}${url.search}`;
    const hostname = url.hostname.replace(/^\[|\]$/g, "");
    const options = { host: hostname, port: portOf(url), path };
    if (url.protocol === "https:") {
      return {
        request: https.request,
        options: { ...options, agent: this.#secureAgent(url, proxy) },
        headers: {},
        proxy,
      };
    }
    if (proxy === undefined || proxy.kind === "socks5") {
      return {
        request: http.request,
        options: { ...options, agent: this.#plainAgent(proxy) },
        headers: {},
        proxy,
      };
    }
    return this.#throughProxy(url, proxy);
  }

  /**
   * Lets every authority that the user trusts vouch for an origin that Node's own do not vouch for.
   * @returns Whether that may help: false when it has been done.
   */
  async trustAll(url: URL): Promise<boolean> {
    if (this.#authorities.has(url.origin)) return false;
    const own = this.#network.certificatesFor(url)?.authorities ?? [];
    this.#authorities.set(url.origin, [...own, ...(await this.#network.allAuthorities())]);
    this.#agents.delete(agentKey(url.origin, this.#network.proxyFor(url)));
    return true;
  }

  /** Ends the connections that are kept for an origin: where one was stale, so may the others be. */
  dropIdle(url: URL): void {
    const { agent } = this.route(url).options;
    if (!(agent instanceof http.Agent)) return;
    for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
  }

  /** Plain HTTP is not tunnelled: the proxy is asked for the whole URL. */
  #throughProxy(url: URL, proxy: ProxyServer): Route {
    const authorization = proxyAuthorization(proxy);
    const isSecure = proxy.kind === "https";
    const agent = this.#agent(`to ${proxy.kind}://${proxy.name}`, () =>
      isSecure ? new https.Agent({ keepAlive: true }) : new http.Agent({ keepAlive: true }),
    );
    return {
      request: isSecure ? https.request : http.request,
      options: {
        host: proxy.hostname,
        port: proxy.port,
        path: `http://${url.host}${url.pathname}${url.search}`,
        agent,
      },
      headers: {
        host: url.host,
        ...(authorization === undefined ? {} : { "proxy-authorization": authorization }),
      },
      proxy,
    };
  }

  #plainAgent(proxy: ProxyServer | undefined): http.Agent {
    return this.#agent(agentKey("http:", proxy), () =>
      proxy === undefined
        ? new http.Agent({ keepAlive: true })
        : new PlainTunnelAgent(this.#opener(proxy, undefined)),
    );
  }

  #secureAgent(url: URL, proxy: ProxyServer | undefined): http.Agent {
    return this.#agent(agentKey(url.origin, proxy), () => {
      const certificates = this.#network.certificatesFor(url);
      const own = certificates?.authorities ?? [];
      const isInsecure = this.isInsecure(url);
      // Where nothing is verified, Node need not parse the authorities that it knows: that takes 40 ms.
      const ifNone = isInsecure ? [] : undefined;
      const authorities = this.#authorities.get(url.origin) ?? (own.length > 0 ? own : ifNone);
      // The first by name, as podman and Docker take them in order.
      const client = certificates?.clients[0];
      const options = {
        keepAlive: true,
        rejectUnauthorized: !isInsecure,
        ...(authorities === undefined ? {} : { ca: [...authorities] }),
        ...(client === undefined ? {} : { cert: client.certificate, key: client.key }),
      };
      return proxy === undefined
        ? new https.Agent(options)
        : new SecureTunnelAgent(options, this.#opener(proxy, this.#authorities.get(url.origin)));
    });
  }

  #opener(proxy: ProxyServer, authorities: readonly string[] | undefined): Open {
    const options = { timeoutMs: this.#tunnelTimeoutMs, signal: this.#disposed.signal, authorities };
    return (target) => openTunnel(proxy, target, options);
  }

  #agent(key: string, make: () => http.Agent): http.Agent {
    const agent = this.#agents.get(key) ?? make();
    this.#agents.set(key, agent);
    return agent;
  }
}

type Created = (error: Error | null, stream: Duplex) => void;

/** Opens the tunnels of an agent. */
type Open = (target: { hostname: string; port: number }) => Promise<Duplex>;

/** Plain HTTP in a tunnel, which only a SOCKS proxy is asked for. */
class PlainTunnelAgent extends http.Agent {
  readonly #open: Open;

  constructor(open: Open) {
    super({ keepAlive: true });
    this.#open = open;
  }

  override createConnection(options: http.ClientRequestArgs, created?: Created): undefined {
    this.#open(targetOf(options)).then(
      (stream) => created?.(null, stream),
      (error: unknown) => fail(created, error),
    );
  }
}

/** HTTPS in a tunnel through a proxy, which sees nothing but the name of the host. */
class SecureTunnelAgent extends https.Agent {
  readonly #open: Open;

  constructor(options: https.AgentOptions, open: Open) {
    super(options);
    this.#open = open;
  }

  override createConnection(options: https.RequestOptions, created?: Created): undefined {
    this.#open(targetOf(options)).then(
      // Node hands over what tls.connect takes, the agent's own options among them.
      (socket) => created?.(null, tls.connect({ ...(options as tls.ConnectionOptions), socket })),
      (error: unknown) => fail(created, error),
    );
  }
}

function targetOf(options: http.ClientRequestArgs): { hostname: string; port: number } {
  return { hostname: options.host ?? "", port: Number(options.port) };
}

/** Node calls for an error alone with an error alone, whatever its types say. */
function fail(created: Created | undefined, error: unknown): void {
  (created as ((error: unknown) => void) | undefined)?.(error);
}

function agentKey(origin: string, proxy: ProxyServer | undefined): string {
  return proxy === undefined ? origin : `${origin} by ${proxy.kind}://${proxy.name}`;
}

function portOf(url: URL): number {
  if (url.port !== "") return Number(url.port);
  return url.protocol === "https:" ? 443 : 80;
}
