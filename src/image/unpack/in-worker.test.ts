import { appendFile, readFile, rename, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { collect, hasTool, noise, TemporaryDirectory } from "../image.test-helper.ts";
import { ContentStore, sha256 } from "../store/content-store.ts";
import { GrowingBlob } from "../store/growing-blob.ts";
import { SLABS, unpackInWorker } from "./in-worker.ts";
import { SLAB_BYTES } from "./protocol.ts";

const hasZstd = await hasTool("zstd");
const content = Buffer.concat([noise(3_000_000, "a"), Buffer.alloc(2 * SLAB_BYTES), noise(1000, "b")]);
/** More than the ring holds. */
const long = Buffer.alloc((SLABS + 3) * SLAB_BYTES, noise(10_000, "c"));

let directory: TemporaryDirectory;
let file: string;
let store: ContentStore;

beforeAll(async () => {
  directory = await TemporaryDirectory.make();
  file = directory.join("worker.cjs");
  await build({
    entryPoints: [new URL("worker.ts", import.meta.url).pathname],
    bundle: true,
    platform: "node",
    format: "cjs",
    outfile: file,
    logLevel: "error",
  });
  store = new ContentStore(directory.join("store"));
  await store.prepare();
});
afterAll(() => directory[Symbol.asyncDispose]());

async function inStore(packed: Buffer): Promise<GrowingBlob> {
  const blob = { digest: sha256(packed), size: packed.length };
  await writeFile(store.blobPath(blob.digest), packed);
  return GrowingBlob.inStore(store, blob);
}

function unpack(blob: GrowingBlob, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  return unpackInWorker(blob, { compression: "gzip", file, signal });
}

describe("a thread that unpacks", () => {
  test("a blob of the store, one after another and side by side", async () => {
    const blobs = await Promise.all(
      [content, long, Buffer.alloc(0), content].map((each) => inStore(gzipSync(each))),
    );
    const unpacked = await Promise.all(blobs.map((blob) => collect(unpack(blob))));
    expect(unpacked.map((each) => each.length)).toEqual([content.length, long.length, 0, content.length]);
    expect(unpacked[0]?.equals(content)).toBe(true);
    expect(unpacked[1]?.equals(long)).toBe(true);
    const [again] = blobs;
    if (again !== undefined) expect((await collect(unpack(again))).equals(content)).toBe(true);
  });

  test("a blob that grows, and moves to its place in the middle", async () => {
    const packed = gzipSync(long);
    const blob = { digest: sha256(packed), size: packed.length };
    const growing = new GrowingBlob(store, blob);
    const partial = store.partialPath(blob.digest);
    const unpacked = collect(unpack(growing));
    await sleep(20);
    await writeFile(partial, "");
    for (let at = 0; at < packed.length; at += 20_000) {
      await appendFile(partial, packed.subarray(at, at + 20_000));
      growing.grow(partial, Math.min(at + 20_000, packed.length));
      await sleep(1);
    }
    await rename(partial, store.blobPath(blob.digest));
    growing.arrive();
    expect((await unpacked).equals(long)).toBe(true);
    // Who comes late finds it where it is now.
    expect((await collect(unpack(growing))).equals(long)).toBe(true);
  });

  test.skipIf(!hasZstd)(
    "zstd, in frames longer than what is read at a time (needs the zstd program)",
    async () => {
      const [raw, packed] = [directory.join("raw"), directory.join("packed.zst")];
      const bytes = noise(2_500_000, "z");
      await writeFile(raw, bytes);
      await runProgram("zstd", ["-q", raw, "-o", packed]);
      const blob = await inStore(await readFile(packed));
      const unpacked = unpackInWorker(blob, { compression: "zstd", file, signal: undefined });
      expect((await collect(unpacked)).equals(bytes)).toBe(true);
    },
  );

  test.each<[string, (packed: Buffer) => Buffer]>([
    ["cut off", (packed) => packed.subarray(0, -9)],
    ["no gzip", () => content],
    [
      "damaged",
      (packed) => Buffer.concat([packed.subarray(0, 5000), Buffer.alloc(100), packed.subarray(5100)]),
    ],
  ])("one that is %s is an error, and the thread works on", async (_, spoil) => {
    await expect(collect(unpack(await inStore(spoil(gzipSync(content)))))).rejects.toThrow();
    expect((await collect(unpack(await inStore(gzipSync(content))))).length).toBe(content.length);
  });

  test("leaving early and aborting end it, also while it waits for bytes", async () => {
    const blob = await inStore(gzipSync(long));
    for await (const chunk of unpack(blob)) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    const controller = new AbortController();
    const packed = gzipSync(noise(1_000_000, "never whole"));
    const growing = new GrowingBlob(store, { digest: sha256(packed), size: packed.length });
    const partial = store.partialPath(sha256(packed));
    await writeFile(partial, packed.subarray(0, 100_000));
    growing.grow(partial, 100_000);
    const reading = collect(unpack(growing, controller.signal));
    await sleep(20);
    controller.abort(new Error("enough"));
    await expect(reading).rejects.toThrow("enough");
    expect((await readFile(partial)).length).toBe(100_000);
  });

  test("a thread that cannot start is an error", async () => {
    const blob = await inStore(gzipSync(content));
    const broken = directory.join("broken.cjs");
    await writeFile(broken, "throw new Error('no such thread');");
    await expect(
      collect(unpackInWorker(blob, { compression: "gzip", file: broken, signal: undefined })),
    ).rejects.toThrow("no such thread");
  });
});
