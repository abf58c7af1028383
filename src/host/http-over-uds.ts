import { connect, type Socket } from "node:net";
import { FirectlError, messageOf } from "../core/errors.ts";
import { withDeadline } from "./deadline.ts";
import { parseHttpReply } from "./http-reply.ts";

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
   * Sends one request; the one before it must have been answered.
   * @throws FirectlError TIMEOUT, IO_FAILED for a reply that is too long or no JSON; the system's error when
   *   the connection fails.
   */
  async request(request: JsonRequest): Promise<JsonReply> {
    const name = `${request.method} ${request.path}`;
    const { timeoutMs, signal } = request;
    try {
      return await withDeadline({ timeoutMs, signal, waitingFor: `the answer to ${name}` }, async () => {
        this.#connection ??= await open(this.socketPath);
        const { status, body, closes } = await exchange(this.#connection, formatRequest(request));
        if (closes) this.close();
        return { status, body: parseBody(body) };
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

function formatRequest(request: JsonRequest): string {
  const body = request.body === undefined ? "" : JSON.stringify(request.body);
  const head = [`${request.method} ${request.path} HTTP/1.1`, "Host: localhost", "Accept: application/json"];
  if (request.body !== undefined) {
    head.push("Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`);
  }
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

function exchange(socket: Socket, request: string): Promise<NonNullable<ReturnType<typeof parseHttpReply>>> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      try {
        const reply = parseHttpReply(received);
        if (reply === undefined) return;
        detach();
        resolve(reply);
      } catch (error) {
        fail(error);
      }
    };
    const fail = (error: unknown): void => {
      detach();
      reject(error);
    };
    const onClose = (): void => {
      fail(Object.assign(new Error("the connection was closed without an answer"), { code: "ECONNRESET" }));
    };
    const detach = (): void => {
      socket.off("data", onData).off("error", fail).off("close", onClose).on("error", ignore);
    };
    socket.off("error", ignore).on("data", onData).on("error", fail).on("close", onClose);
    socket.write(request);
  });
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
