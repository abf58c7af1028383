import { FirectlError } from "../core/errors.ts";

/** A whole reply at the head of a stream of bytes. */
export interface HttpReply {
  readonly status: number;
  readonly body: Buffer;
  /** How many of the bytes it takes up. */
  readonly length: number;
  /** Whether the server closes the connection after it. */
  readonly closes: boolean;
}

const MAX_HEAD_BYTES = 16 * 1024;

/** More than any reply that firectl asks for; the peer is not trusted to stop by itself. */
const MAX_BODY_BYTES = 1024 * 1024;

/**
 * Reads the HTTP/1.1 reply that `bytes` begins with; undefined while it is not whole.
 * https://www.rfc-editor.org/rfc/rfc9112
 * @throws FirectlError IO_FAILED for what is no such reply, or too long a one.
 */
export function parseHttpReply(bytes: Buffer): HttpReply | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) {
    if (bytes.length > MAX_HEAD_BYTES) throw malformed("its head does not end");
    return undefined;
  }
  const [statusLine = "", ...fields] = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1];
  if (status === undefined) throw malformed(`it begins with ${JSON.stringify(statusLine.slice(0, 80))}`);
  const headers = new Map(fields.map(parseField));
  const rest = bytes.subarray(headEnd + 4);
  const body = bodyOf(Number(status), headers, rest);
  const closes = headers.get("connection")?.toLowerCase() === "close";
  if (body === undefined) return undefined;
  return { status: Number(status), body: body.bytes, length: headEnd + 4 + body.length, closes };
}

function parseField(line: string): [string, string] {
  const colon = line.indexOf(":");
  if (colon <= 0) throw malformed(`its head holds ${JSON.stringify(line.slice(0, 80))}`);
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

/** A body, and the bytes that it took up on the way. */
interface Body {
  readonly bytes: Buffer;
  readonly length: number;
}

function bodyOf(status: number, headers: ReadonlyMap<string, string>, rest: Buffer): Body | undefined {
  if (status === 204 || status === 304) return { bytes: Buffer.alloc(0), length: 0 };
  if (headers.get("transfer-encoding")?.toLowerCase() === "chunked") return dechunk(rest);
  const field = headers.get("content-length") ?? "0";
  const length = /^\d+$/.test(field) ? Number(field) : Number.NaN;
  if (!(length <= MAX_BODY_BYTES))
    throw malformed(`its length is ${field}; ${MAX_BODY_BYTES} bytes are the most`);
  return rest.length < length ? undefined : { bytes: rest.subarray(0, length), length };
}

function dechunk(rest: Buffer): Body | undefined {
  const chunks: Buffer[] = [];
  let at = 0;
  let size = 0;
  for (;;) {
    const lineEnd = rest.indexOf("\r\n", at);
    if (lineEnd < 0) {
      if (rest.length - at > MAX_HEAD_BYTES) throw malformed("the line of a chunk does not end");
      return undefined;
    }
    const digits = /^([0-9a-f]{1,8})(?:;|$)/i.exec(rest.toString("latin1", at, lineEnd))?.[1];
    if (digits === undefined) throw malformed("a chunk has no length");
    const length = Number.parseInt(digits, 16);
    size += length;
    if (size > MAX_BODY_BYTES) throw malformed(`it is longer than ${MAX_BODY_BYTES} bytes`);
    const end = lineEnd + 2 + length + 2;
    if (rest.length < end) return undefined;
    if (length === 0) return { bytes: Buffer.concat(chunks), length: end };
    chunks.push(rest.subarray(lineEnd + 2, end - 2));
    at = end;
  }
}

function malformed(problem: string): FirectlError {
  return new FirectlError("IO_FAILED", `not a reply that firectl can read: ${problem}`);
}
