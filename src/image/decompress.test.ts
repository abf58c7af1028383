import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { runProgram } from "../host/process.ts";
import { decompress } from "./decompress.ts";
import { chunksOf, collect, hasTool, noise, TemporaryDirectory } from "./image.test-helper.ts";
import type { Compression } from "./media-types.ts";
import { sha256 } from "./store/content-store.ts";

const hasZstd = await hasTool("zstd");

function unpack(
  bytes: Uint8Array,
  options: {
    compression: Compression;
    of: Uint8Array;
    chunk?: number;
    signal?: AbortSignal;
  },
): AsyncGenerator<Uint8Array> {
  return decompress(
    { chunks: () => chunksOf(bytes, options.chunk ?? 65_536) },
    {
      compression: options.compression,
      what: "layer x",
      diffId: sha256(options.of),
      signal: options.signal,
    },
  );
}

const content = Buffer.concat([noise(300_000, "a"), Buffer.alloc(700_000), noise(123, "b")]);

describe("gzip", () => {
  it.each([1, 7, 4096, 65_536, 10_000_000])("unpacks chunks of %i bytes", async (chunk) => {
    const small = chunk < 100 ? content.subarray(299_000, 301_000) : content;
    const unpacked = await collect(unpack(gzipSync(small), { compression: "gzip", of: small, chunk }));
    expect(unpacked.equals(small)).toBe(true);
  });

  it("unpacks several members, wherever the chunks fall", async () => {
    const members = [noise(1000, "1"), Buffer.alloc(0), noise(3000, "2"), Buffer.alloc(5000)];
    const whole = Buffer.concat(members);
    const packed = Buffer.concat(members.map((member) => gzipSync(member)));
    for (let chunk = 1; chunk < packed.length; chunk += 37) {
      const unpacked = await collect(unpack(packed, { compression: "gzip", of: whole, chunk }));
      expect(unpacked.equals(whole)).toBe(true);
    }
  });

  it.each<[string, Buffer]>([
    ["cut off", gzipSync(content).subarray(0, -9)],
    ["cut off in the header", gzipSync(content).subarray(0, 5)],
    ["empty", Buffer.alloc(0)],
    ["no gzip", content],
    ["with a wrong checksum", corrupt(gzipSync(content), -6)],
    ["damaged", corrupt(gzipSync(content), 5000)],
    ["followed by rubbish", Buffer.concat([gzipSync(content), Buffer.from("rubbish behind the end")])],
  ])("refuses one that is %s", async (_name, packed) => {
    await expect(collect(unpack(packed, { compression: "gzip", of: content }))).rejects.toMatchObject({
      code: expect.stringMatching(/LAYER_INVALID|DIGEST_MISMATCH/),
      message: expect.stringContaining("layer x"),
    });
  });
});

describe("any compression", () => {
  it("passes uncompressed bytes on", async () => {
    expect((await collect(unpack(content, { compression: "none", of: content }))).equals(content)).toBe(true);
  });

  it("refuses another diff_id at the end", async () => {
    const stream = unpack(gzipSync(content), { compression: "gzip", of: Buffer.from("other") });
    await expect(collect(stream)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  });

  it("makes a bomb's bytes only as they are asked for", async () => {
    const bomb = gzipSync(Buffer.alloc(500_000_000));
    let received = 0;
    for await (const chunk of unpack(bomb, { compression: "gzip", of: content })) {
      received += chunk.length;
      if (received > 1_000_000) break;
    }
    expect(received).toBeLessThan(20_000_000);
  });

  it.each<Compression>(["none", "gzip"])(
    "frees its source when %s is left early or aborted",
    async (compression) => {
      const packed = compression === "gzip" ? gzipSync(randomBytes(5_000_000)) : randomBytes(5_000_000);
      const controller = new AbortController();
      for (const leave of ["break", "abort"]) {
        let isFreed = false;
        const chunks = (async function* () {
          try {
            yield* chunksOf(packed, 65_536);
          } finally {
            isFreed = true;
          }
        })();
        const options = { compression, what: "layer x", diffId: sha256(packed), signal: controller.signal };
        const reading = (async () => {
          for await (const _ of decompress({ chunks: () => chunks }, options)) {
            if (leave === "break") break;
            controller.abort(new Error("enough"));
          }
        })();
        if (leave === "abort") await expect(reading).rejects.toThrow("enough");
        else await reading;
        await sleep(1);
        expect(isFreed).toBe(true);
      }
    },
  );

  it("reports a source that breaks", async () => {
    const chunks = (async function* () {
      yield gzipSync(content).subarray(0, 1000);
      throw new Error("the disk is gone");
    })();
    const options = { compression: "gzip" as const, what: "layer x", diffId: sha256(content) };
    await expect(collect(decompress({ chunks: () => chunks }, options))).rejects.toThrow(
      /layer x cannot be unpacked: the disk is gone/,
    );
  });
});

describe.skipIf(!hasZstd)("zstd (needs the zstd program)", () => {
  async function pack(bytes: Buffer, ...flags: readonly string[]): Promise<Buffer> {
    await using directory = await TemporaryDirectory.make();
    const [from, to] = [directory.join("in"), directory.join("out")];
    const { readFile, writeFile } = await import("node:fs/promises");
    await writeFile(from, bytes);
    await runProgram("zstd", ["-q", ...flags, from, "-o", to]);
    return readFile(to);
  }

  it.each([["-1"], ["-3"], ["-19"], ["--no-check"], ["--long=27"]])(
    "unpacks what zstd %s made",
    async (flag) => {
      const packed = await pack(content, flag);
      for (const chunk of [1000, 65_536]) {
        const unpacked = await collect(unpack(packed, { compression: "zstd", of: content, chunk }));
        expect(unpacked.equals(content)).toBe(true);
      }
    },
  );

  it("unpacks several frames and skips what is to be skipped", async () => {
    const frame = await pack(noise(5000, "f"));
    const skippable = Buffer.concat([
      Buffer.from("502a4d18", "hex"),
      Buffer.from([5, 0, 0, 0]),
      Buffer.from("12345"),
    ]);
    const packed = Buffer.concat([frame, skippable, frame, frame]);
    const whole = Buffer.concat([noise(5000, "f"), noise(5000, "f"), noise(5000, "f")]);
    for (const chunk of [1, 100, 5017, 65_536]) {
      const unpacked = await collect(unpack(packed, { compression: "zstd", of: whole, chunk }));
      expect(unpacked.equals(whole)).toBe(true);
    }
  });

  it("unpacks thousands of small frames", async () => {
    const frame = await pack(Buffer.from("x"));
    const count = 20_000;
    const packed = Buffer.concat(Array<Buffer>(count).fill(frame));
    const whole = Buffer.alloc(count, "x");
    expect((await collect(unpack(packed, { compression: "zstd", of: whole }))).equals(whole)).toBe(true);
  });

  it.each<[string, (packed: Buffer) => Buffer]>([
    ["cut off", (packed) => packed.subarray(0, -500)],
    ["empty", () => Buffer.alloc(0)],
    ["no zstd", () => content],
    ["damaged", (packed) => corrupt(packed, 1000)],
  ])("refuses one that is %s", async (_name, spoil) => {
    const packed = spoil(await pack(content));
    await expect(collect(unpack(packed, { compression: "zstd", of: content }))).rejects.toMatchObject({
      code: expect.stringMatching(/LAYER_INVALID|DIGEST_MISMATCH/),
    });
  });
});

function corrupt(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  const index = at < 0 ? copy.length + at : at;
  copy[index] = (copy[index] ?? 0) ^ 0x55;
  return copy;
}
