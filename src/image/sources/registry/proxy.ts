import { BlockList, isIP, isIPv4 } from "node:net";
import { FirectlError } from "../../../core/errors.ts";

/** A server through which others are reached. */
export interface ProxyServer {
  readonly kind: "http" | "https" | "socks5";
  readonly hostname: string;
  readonly port: number;
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  /** `proxy.example:3128`, for messages: never with its credentials. */
  readonly name: string;
}

const DEFAULT_PORTS = { http: 80, https: 443, socks5: 1080 } as const;

/**
 * Reads the proxy variables as Go's programs do, Docker and podman among them, with curl's ALL_PROXY for what
 * has no variable of its own. Returns what tells the proxy for a URL.
 * https://pkg.go.dev/golang.org/x/net/http/httpproxy
 * @throws FirectlError INVALID_CONFIGURATION for an address that is none, UNSUPPORTED for an unknown protocol.
 */
export function proxiesOf(env: NodeJS.ProcessEnv): (url: URL) => ProxyServer | undefined {
  const all = parseProxy("ALL_PROXY", env["ALL_PROXY"] || env["all_proxy"]);
  // A CGI program's HTTP_PROXY is the Proxy header of whoever asks it: https://httpoxy.org
  const plainText = (env["REQUEST_METHOD"] ? undefined : env["HTTP_PROXY"]) || env["http_proxy"];
  const plain = parseProxy("HTTP_PROXY", plainText) ?? all;
  const secure = parseProxy("HTTPS_PROXY", env["HTTPS_PROXY"] || env["https_proxy"]) ?? all;
  const isDirect = directHosts(env["NO_PROXY"] || env["no_proxy"] || "");
  return (url) => {
    const proxy = url.protocol === "https:" ? secure : plain;
    return proxy === undefined || isDirect(url) ? undefined : proxy;
  };
}

function parseProxy(variable: string, text: string | undefined): ProxyServer | undefined {
  const trimmed = text?.trim() ?? "";
  if (trimmed === "") return undefined;
  const address = /^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed) ? trimmed : `http://${trimmed}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  // The text is not quoted: a password may be in it.
  if (url === undefined || url.hostname === "") {
    throw new FirectlError("INVALID_CONFIGURATION", `${variable} is not the address of a proxy`, {
      hint: `write it as in ${variable}=http://proxy.example:3128`,
    });
  }
  const kind = kindOf(url.protocol);
  if (kind === undefined) {
    throw new FirectlError(
      "UNSUPPORTED",
      `${variable} names a proxy by ${url.protocol}//, which firectl does not know`,
      { hint: "http, https, socks5 and socks5h proxies are known" },
    );
  }
  const port = url.port === "" ? DEFAULT_PORTS[kind] : Number(url.port);
  return {
    kind,
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port,
    credentials: credentialsOf(url, variable),
    name: `${url.hostname}:${port}`,
  };
}

function kindOf(protocol: string): ProxyServer["kind"] | undefined {
  switch (protocol) {
    case "http:":
      return "http";
    case "https:":
      return "https";
    // As in Go, both leave the look-up of names to the proxy.
    case "socks5:":
    case "socks5h:":
      return "socks5";
    default:
      return undefined;
  }
}

function credentialsOf(url: URL, variable: string): ProxyServer["credentials"] {
  if (url.username === "" && url.password === "") return undefined;
  try {
    return { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  } catch {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `${variable} has a user name or password with a wrong percent-encoding`,
    );
  }
}

type Matcher = (target: { host: string; port: string }) => boolean;

/** This machine's own hosts, and those that NO_PROXY names. */
function directHosts(noProxy: string): (url: URL) => boolean {
  const entries = noProxy
    .split(",")
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== "");
  const matchers: readonly Matcher[] = entries.includes("*")
    ? [() => true]
    : entries.flatMap((entry) => matcherOf(entry) ?? []);
  return (url) => {
    const host = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
    if (host === "localhost" || isLoopbackAddress(host)) return true;
    const port = url.port || (url.protocol === "https:" ? "443" : "80");
    return matchers.some((matches) => matches({ host, port }));
  };
}

/** `10.0.0.0/8`, `10.0.0.1[:80]`, `[::1]:80`, `example.com[:80]` (subdomains too), `.example.com`, `*.example.com`. */
function matcherOf(entry: string): Matcher | undefined {
  const network = networkOf(entry);
  if (network !== undefined) return ({ host }) => isWithin(network, host);
  const { host: named, port } = splitPort(entry);
  if (named === "") return undefined;
  const isPort = (actual: string): boolean => port === "" || port === actual;
  if (isIP(named) !== 0) {
    const single = new BlockList();
    single.addAddress(named, familyOf(named));
    return (target) => isWithin(single, target.host) && isPort(target.port);
  }
  const suffix = named.replace(/^\*(?=\.)/, "");
  const withDot = suffix.startsWith(".") ? suffix : `.${suffix}`;
  return ({ host, port: actual }) => (host === suffix || host.endsWith(withDot)) && isPort(actual);
}

/** The network that `text` names (`10.0.0.0/8`, `fd00::/8`), or undefined when it names none. */
export function networkOf(text: string): BlockList | undefined {
  const [, address = "", bits = ""] = /^([0-9a-f.:]+)\/(\d{1,3})$/i.exec(text) ?? [];
  if (isIP(address) === 0 || Number(bits) > (isIPv4(address) ? 32 : 128)) return undefined;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), familyOf(address));
  return list;
}

/** Whether `host` is an address, and one of that network. */
export function isWithin(network: BlockList, host: string): boolean {
  return isIP(host) !== 0 && network.check(host, familyOf(host));
}

function isLoopbackAddress(host: string): boolean {
  return /^127(?:\.\d{1,3}){3}$/.test(host) || host === "::1";
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIPv4(address) ? "ipv4" : "ipv6";
}

/** Go's net.SplitHostPort, for what has a port: a bare IPv6 address has none. */
function splitPort(entry: string): { host: string; port: string } {
  const bracketed = /^\[([^\]]*)\](?::(\d*))?$/.exec(entry);
  if (bracketed !== null) return { host: bracketed[1] ?? "", port: bracketed[2] ?? "" };
  const simple = /^([^:]*):(\d*)$/.exec(entry);
  return simple === null ? { host: entry, port: "" } : { host: simple[1] ?? "", port: simple[2] ?? "" };
}
