import { describe, expect, test } from "vitest";
import { parseHttpReply } from "./http-reply.ts";

const CHUNKED =
  "HTTP/1.1 400 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n";

describe("parseHttpReply", () => {
  test.each<[string, number, string]>([
    // What Firecracker's micro_http sends.
    ["HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n", 204, ""],
    [
      "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
      200,
      "{}",
    ],
    [CHUNKED, 400, "abc0123456789abcdef"],
    ["HTTP/1.0 500 Internal Server Error\r\ncontent-length:0\r\n\r\n", 500, ""],
  ])("%j, whole and at no cut before its end", (text, status, body) => {
    const bytes = Buffer.from(text, "latin1");
    const reply = parseHttpReply(bytes);
    expect(reply?.status).toBe(status);
    expect(reply?.body.toString()).toBe(body);
    for (let cut = 0; cut < bytes.length; cut++)
      expect(parseHttpReply(bytes.subarray(0, cut))).toBeUndefined();
  });

  test("takes 1 MiB and not a byte more", () => {
    const reply = (length: number): Buffer =>
      Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n${"x".repeat(length)}`);
    expect(parseHttpReply(reply(1_048_576))?.body).toHaveLength(1_048_576);
    expect(() => parseHttpReply(reply(1_048_577))).toThrow(
      "its length is 1048577; 1048576 bytes are the most",
    );
  });

  test.each([
    ["SSH-2.0-OpenSSH\r\n\r\n", /begins with "SSH-2.0-OpenSSH"/],
    ["HTTP/2 200\r\n\r\n", /begins with/],
    ["HTTP/1.1 20 OK\r\n\r\n", /begins with/],
    ["HTTP/1.1 200 OK\r\nno colon\r\n\r\n", /its head holds "no colon"/],
    ["HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", /its length is -1/],
    ["HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n", /its length is 1e3/],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", /a chunk has no length/],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", /longer than 1048576/],
    ["x".repeat(16_385), /its head does not end/],
    [`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${"1".repeat(16_385)}`, /does not end/],
  ])("refuses %j", (text, message) => {
    expect(() => parseHttpReply(Buffer.from(text, "latin1"))).toThrow(message);
  });
});
