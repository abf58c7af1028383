import { once } from "node:events";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { connect, isIPv4, isIPv6, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { FirectlError } from "../../../core/errors.ts";
import type { ProxyServer } from "./proxy.ts";
import { TransientFailure } from "./retry.ts";

/** Where a tunnel leads to. */
export interface TunnelTarget {
  readonly hostname: string;
  readonly port: number;
}

export interface TunnelOptions {
  readonly timeoutMs: number;
  /** Authorities for a proxy that is spoken to in TLS; Node's own when undefined. */
  readonly authorities?: readonly string[] | undefined;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/**
 * A connection to `target` through a proxy.
 * @throws FirectlError REGISTRY_UNREACHABLE when the proxy refuses; TransientFailure; the socket's error.
 */
export function openTunnel(
  proxy: ProxyServer,
  target: TunnelTarget,
  options: TunnelOptions,
): Promise<Duplex> {
  return proxy.kind === "socks5"
    ? openSocksTunnel(proxy, target, options)
    : openHttpTunnel(proxy, target, options);
}

/** The value of the Proxy-Authorization header, undefined for a proxy without credentials. */
export function proxyAuthorization(proxy: ProxyServer): string | undefined {
  if (proxy.credentials === undefined) return undefined;
  const { username, password } = proxy.credentials;
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/** The error for a proxy that wants other credentials than it got. */
export function proxyWantsLogin(proxy: ProxyServer): FirectlError {
  return new FirectlError("REGISTRY_UNREACHABLE", `proxy ${proxy.name} asks for a login (407)`, {
    hint: "put the user and password into the variable, as in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
  });
}

/** https://www.rfc-editor.org/rfc/rfc9110#CONNECT */
async function openHttpTunnel(
  proxy: ProxyServer,
  target: TunnelTarget,
  options: TunnelOptions,
): Promise<Duplex> {
  const authority = `${bracketed(target.hostname)}:${target.port}`;
  const authorization = proxyAuthorization(proxy);
  const request = (proxy.kind === "https" ? https : http).request({
    host: proxy.hostname,
    port: proxy.port,
    method: "CONNECT",
    path: authority,
    agent: false,
    signal: options.signal,
    headers: {
      host: authority,
      "user-agent": "firectl",
      ...(authorization === undefined ? {} : { "proxy-authorization": authorization }),
    },
    ...(options.authorities === undefined ? {} : { ca: [...options.authorities] }),
  });
  const timer = setTimeout(() => request.destroy(silent()), options.timeoutMs);
  try {
    const connected = once(request, "connect");
    request.end();
    // The event's arguments, as Node documents them.
    const [response, socket, head] = (await connected) as [IncomingMessage, Duplex, Buffer];
    const status = response.statusCode ?? 0;
    if (status < 200 || status >= 300) {
      socket.destroy();
      throw refusal(proxy, authority, status);
    }
    if (head.length > 0) socket.unshift(head);
    return socket;
  } finally {
    clearTimeout(timer);
  }
}

function refusal(proxy: ProxyServer, authority: string, status: number): Error {
  if (status === 407) return proxyWantsLogin(proxy);
  const failure = new FirectlError(
    "REGISTRY_UNREACHABLE",
    `proxy ${proxy.name} does not connect to ${authority}: it answers ${status}`,
    { hint: "if that host is to be reached without the proxy, name it in NO_PROXY" },
  );
  return status >= 500 ? new TransientFailure(failure) : failure;
}

/** RFC 1928's ways to fail, by the number in the reply. */
const SOCKS_FAILURES: readonly string[] = [
  "succeeded",
  "general failure",
  "not allowed by its rules",
  "network unreachable",
  "host unreachable",
  "connection refused",
  "time to live expired",
  "command not supported",
  "address type not supported",
];
const NO_LOGIN = 0;
const PASSWORD_LOGIN = 2;

/** https://www.rfc-editor.org/rfc/rfc1928, with the passwords of https://www.rfc-editor.org/rfc/rfc1929 */
async function openSocksTunnel(
  proxy: ProxyServer,
  target: TunnelTarget,
  options: TunnelOptions,
): Promise<Socket> {
  const socket = connect({ host: proxy.hostname, port: proxy.port, noDelay: true, signal: options.signal });
  const timer = setTimeout(() => socket.destroy(silent()), options.timeoutMs);
  // An error between two reads is met by the next one.
  socket.on("error", () => {});
  try {
    await once(socket, "connect");
    const methods = proxy.credentials === undefined ? [NO_LOGIN] : [NO_LOGIN, PASSWORD_LOGIN];
    socket.write(Buffer.from([5, methods.length, ...methods]));
    const [version, method] = await readExactly(socket, 2, proxy);
    if (version !== 5) throw unreachable(proxy, "does not speak SOCKS 5");
    if (method === PASSWORD_LOGIN && proxy.credentials !== undefined) {
      await logIn(socket, proxy, proxy.credentials);
    } else if (method !== NO_LOGIN) {
      throw unreachable(proxy, "asks for a login");
    }
    socket.write(Buffer.concat([Buffer.from([5, 1, 0]), socksAddress(target)]));
    await readReply(socket, proxy, target);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function logIn(
  socket: Socket,
  proxy: ProxyServer,
  credentials: { username: string; password: string },
): Promise<void> {
  const [name, password] = [Buffer.from(credentials.username), Buffer.from(credentials.password)];
  if (name.length > 255 || password.length > 255) {
    throw unreachable(proxy, "takes a user name and password of at most 255 bytes");
  }
  const lengths = [Buffer.from([1, name.length]), Buffer.from([password.length])];
  socket.write(Buffer.concat([...lengths.slice(0, 1), name, ...lengths.slice(1), password]));
  const [, status] = await readExactly(socket, 2, proxy);
  if (status !== 0) throw unreachable(proxy, "refuses its user name and password");
}

async function readReply(socket: Socket, proxy: ProxyServer, target: TunnelTarget): Promise<void> {
  const [, status = 1, , type, first = 0] = await readExactly(socket, 5, proxy);
  if (status !== 0) {
    const why = SOCKS_FAILURES[status] ?? `failure ${status}`;
    throw unreachable(proxy, `does not connect to ${target.hostname}:${target.port}: ${why}`);
  }
  // The address that the proxy is bound to, whose first byte has been read, and its port.
  const addressBytes = type === 4 ? 16 : type === 3 ? first + 1 : 4;
  await readExactly(socket, addressBytes - 1 + 2, proxy);
}

function socksAddress({ hostname, port }: TunnelTarget): Buffer {
  const portBytes = Buffer.from([port >> 8, port & 0xff]);
  if (isIPv4(hostname))
    return Buffer.concat([Buffer.from([1, ...hostname.split(".").map(Number)]), portBytes]);
  if (isIPv6(hostname)) return Buffer.concat([Buffer.from([4]), ipv6Bytes(hostname), portBytes]);
  const name = Buffer.from(hostname);
  return Buffer.concat([Buffer.from([3, name.length]), name, portBytes]);
}

/** URL hostnames have IPv6 addresses in their short form, without embedded IPv4. */
function ipv6Bytes(address: string): Buffer {
  const [head = "", tail] = address.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const middle = Array.from({ length: 8 - before.length - after.length }, () => "0");
  return Buffer.from([...before, ...middle, ...after].map((group) => group.padStart(4, "0")).join(""), "hex");
}

function readExactly(socket: Socket, size: number, proxy: ProxyServer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      socket.off("readable", tryRead).off("end", fail).off("close", fail);
      act();
    };
    const fail = (): void =>
      settle(() =>
        reject(socket.errored ?? unreachable(proxy, "ends the connection in the middle of its greeting")),
      );
    // After the end, read() gives what there is, however little.
    const tryRead = (): void => {
      const bytes: unknown = socket.read(size);
      if (!Buffer.isBuffer(bytes)) return;
      if (bytes.length === size) settle(() => resolve(bytes));
      else fail();
    };
    socket.on("readable", tryRead).on("end", fail).on("close", fail);
    if (socket.destroyed) fail();
    else tryRead();
  });
}

function unreachable(proxy: ProxyServer, what: string): FirectlError {
  return new FirectlError("REGISTRY_UNREACHABLE", `proxy ${proxy.name} ${what}`, {
    hint: "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; NO_PROXY names hosts that are reached directly",
  });
}

function silent(): Error {
  return Object.assign(new Error("the proxy does not answer"), { code: "ETIMEDOUT" });
}

function bracketed(hostname: string): string {
  return isIPv6(hostname) ? `[${hostname}]` : hostname;
}
