import http, { type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collect, noise } from "../../image.test-helper.ts";
import { type Handler, TestServer } from "../../registry.test-helper.ts";
import { bodyChunks } from "./body.ts";

async function get(host: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    http.get(`http://${host}/`, { agent: false }, resolve).once("error", reject);
  });
}

async function withBody(handler: Handler, work: (body: IncomingMessage) => Promise<void>): Promise<void> {
  await using server = await TestServer.start(handler);
  const body = await get(server.host);
  // Whoever reads one has this listener.
  body.on("error", () => {});
  try {
    await work(body);
  } finally {
    body.destroy();
  }
}

describe("bodyChunks", () => {
  it("gives all bytes in order, however they are sent and read", async () => {
    const pieces = fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 0, max: 3 }), async (sizes, pauseMs) => {
        const parts = sizes.map((size, index) => noise(size, String(index)));
        const send: Handler = async (_request, response) => {
          for (const part of parts) {
            response.write(part);
            if (part.length % 3 === 0) await sleep(1);
          }
          response.end();
        };
        await withBody(send, async (body) => {
          const read: Uint8Array[] = [];
          for await (const chunk of bodyChunks(body)) {
            read.push(chunk);
            if (pauseMs > 0) await sleep(pauseMs);
          }
          expect(Buffer.concat(read).equals(Buffer.concat(parts))).toBe(true);
        });
      }),
      { numRuns: 30 },
    );
  });

  it("joins what comes while the reader is busy, and holds the sender back", async () => {
    let sent = 0;
    const send: Handler = async (_request, response) => {
      response.on("error", () => {});
      const piece = Buffer.alloc(16 * 1024);
      for (; sent < 64_000_000 && !response.destroyed; sent += piece.length) {
        if (!response.write(piece))
          await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
        response.removeAllListeners("close");
      }
      response.end();
    };
    await withBody(send, async (body) => {
      const chunks = bodyChunks(body);
      await chunks.next();
      while (!body.isPaused()) await sleep(5);
      const { value } = await chunks.next();
      expect(value?.byteLength).toBeGreaterThanOrEqual(512 * 1024);
      expect(value?.byteLength).toBeLessThan(1024 * 1024);
      // What is on its way beyond that is in the kernel's buffers.
      expect(sent).toBeLessThan(32_000_000);
    });
  });

  it("gives what came before a break, then the break", async () => {
    const send: Handler = (_request, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write(Buffer.alloc(60), () => response.destroy());
    };
    await withBody(send, async (body) => {
      const chunks = bodyChunks(body);
      expect((await chunks.next()).value?.byteLength).toBe(60);
      await expect(chunks.next()).rejects.toMatchObject({ code: "ECONNRESET" });
    });
  });

  it("says that a body is gone which was destroyed before", async () => {
    await withBody(
      (_request, response) => void response.end("text"),
      async (body) => {
        body.destroy();
        await expect(collect(bodyChunks(body))).rejects.toMatchObject({ code: "ECONNRESET" });
      },
    );
  });

  it("takes nothing of an empty one", async () => {
    await withBody(
      (_request, response) => void response.end(),
      async (body) => expect(await collect(bodyChunks(body))).toHaveLength(0),
    );
  });
});
