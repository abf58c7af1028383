import { connect, type Socket } from "node:net";
import { FirectlError, messageOf } from "../core/errors.ts";
import { withDeadline } from "./deadline.ts";
import { type HttpReply, parseHttpReply } from "./http-reply.ts";

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

/**
 * JSON over HTTP/1.1 on one unix socket: one connection, kept open, requests one after the other.
 * On node:net and not node:http, whose first request costs 20 ms more at every start of a VM.
 */
export class HttpOverUds {
  readonly socketPath: string;
  #connection: Socket | undefined;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /**
   * Connects, if something listens; otherwise a connection is made with the first request.
   * @throws The system's error, ECONNREFUSED and ENOENT among them.
   */
  async connect(): Promise<void> {
    this.#connection ??= await open(this.socketPath);
  }

  /**
   * Sends one request; the one before it must have been answered.
   * @throws FirectlError TIMEOUT, IO_FAILED for a reply that is too long or no JSON; the system's error when
   *   the connection fails.
   */
  async request(request: JsonRequest): Promise<JsonReply> {
    const [reply] = await this.requestAll([request], request);
    if (reply === undefined) throw new Error("one request has one reply");
    return reply;
  }

  /**
   * Sends several requests in one piece, without waiting for the replies in between: they come in order.
   * @throws As {@link request}.
   */
  async requestAll(
    requests: readonly Pick<JsonRequest, "method" | "path" | "body">[],
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined },
  ): Promise<JsonReply[]> {
    const name = requests.map(({ method, path }) => `${method} ${path}`).join(", ");
    const { timeoutMs, signal } = options;
    try {
      return await withDeadline({ timeoutMs, signal, waitingFor: `the answer to ${name}` }, async () => {
        this.#connection ??= await open(this.socketPath);
        const text = requests.map(formatRequest).join("");
        const replies = await exchange(this.#connection, { text, count: requests.length });
        if (replies.some(({ closes }) => closes)) this.close();
        return replies.map(({ status, body }) => ({ status, body: parseBody(body) }));
      });
    } catch (error) {
      // What else comes on this connection would be taken for the answer to the next request.
      this.close();
      if (error instanceof FirectlError && error.code === "IO_FAILED") {
        throw new FirectlError("IO_FAILED", `the answer to ${name}: ${error.message}`, { cause: error });
      }
      throw error;
    }
  }

  /** Closes the connection. */
  close(): void {
    this.#connection?.destroy();
    this.#connection = undefined;
  }
}

function open(socketPath: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

function formatRequest(request: Pick<JsonRequest, "method" | "path" | "body">): string {
  const body = request.body === undefined ? "" : JSON.stringify(request.body);
  const head = [`${request.method} ${request.path} HTTP/1.1`, "Host: localhost", "Accept: application/json"];
  if (request.body !== undefined) {
    head.push("Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`);
  }
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

/** Writes `text`, which is `count` requests, and reads as many replies. */
function exchange(
  socket: Socket,
  { text, count }: { text: string; count: number },
): Promise<readonly HttpReply[]> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const replies: HttpReply[] = [];
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      try {
        while (replies.length < count) {
          const reply = parseHttpReply(received);
          if (reply === undefined) return;
          replies.push(reply);
          received = received.subarray(reply.length);
          // What would still come does not: a server that closes has said its last.
          if (reply.closes) break;
        }
        if (replies.length < count) throw closedEarly();
        detach();
        resolve(replies);
      } catch (error) {
        fail(error);
      }
    };
    const fail = (error: unknown): void => {
      detach();
      reject(error);
    };
    const onClose = (): void => {
      fail(closedEarly());
    };
    const detach = (): void => {
      socket.off("data", onData).off("error", fail).off("close", onClose).on("error", ignore);
    };
    socket.off("error", ignore).on("data", onData).on("error", fail).on("close", onClose);
    socket.write(text);
  });
}

function closedEarly(): Error {
  return Object.assign(new Error("the connection was closed without an answer"), { code: "ECONNRESET" });
}

/** Between two requests an error only means that the next one finds the connection closed. */
function ignore(): void {}

function parseBody(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new FirectlError("IO_FAILED", `no JSON: ${messageOf(error)}`, { cause: error });
  }
}
