import type { Agent, IncomingMessage, RequestOptions } from "node:http";
import { FirectlError, messageOf } from "../core/errors.ts";
import { withDeadline } from "./deadline.ts";

export interface JsonRequest {
  readonly method: "GET" | "PUT" | "PATCH";
  readonly path: string;
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface JsonReply {
  readonly status: number;
  /** The parsed body, undefined when it is empty. */
  readonly body: unknown;
}

/** More than any reply that firectl asks for; the peer is not trusted to stop by itself. */
const MAX_REPLY_BYTES = 1024 * 1024;

/** JSON over HTTP/1.1 on one unix socket: one connection, kept open, requests one after the other. */
export class HttpOverUds {
  readonly socketPath: string;
  #agent: Agent | undefined;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /**
   * Sends one request.
   * @throws FirectlError TIMEOUT, IO_FAILED for a reply that is too long or no JSON; the system's error when
   *   the connection fails.
   */
  async request(request: JsonRequest): Promise<JsonReply> {
    // node:http costs milliseconds to load, and most commands never talk to a VMM.
    const http = await import("node:http");
    this.#agent ??= new http.Agent({ keepAlive: true, maxSockets: 1 });
    const agent = this.#agent;
    const name = `${request.method} ${request.path}`;
    const { timeoutMs, signal } = request;
    return withDeadline({ timeoutMs, signal, waitingFor: `the answer to ${name}` }, (aborted) => {
      const text = request.body === undefined ? undefined : JSON.stringify(request.body);
      const options: RequestOptions = {
        socketPath: this.socketPath,
        agent,
        method: request.method,
        path: request.path,
        signal: aborted,
        headers: {
          Accept: "application/json",
          ...(text === undefined
            ? {}
            : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) }),
        },
      };
      return new Promise<JsonReply>((resolve, reject) => {
        const outgoing = http.request(options, (incoming) => {
          readJson(incoming, name).then(
            (body) => resolve({ status: incoming.statusCode ?? 0, body }),
            (error: unknown) => {
              outgoing.destroy();
              reject(error);
            },
          );
        });
        outgoing.once("error", reject);
        outgoing.end(text);
      });
    });
  }

  /** Closes the connection. */
  close(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }
}

async function readJson(incoming: IncomingMessage, name: string): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_REPLY_BYTES) {
      throw new FirectlError("IO_FAILED", `the answer to ${name} is longer than ${MAX_REPLY_BYTES} bytes`);
    }
    chunks.push(bytes);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (error) {
    throw new FirectlError("IO_FAILED", `the answer to ${name} is no JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
