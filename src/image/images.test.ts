import { readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Digest, digestHex } from "../core/brands.ts";
import { bundleProgram } from "../core/bundle.test-helper.ts";
import { runProgram, streamProgram } from "../host/process.ts";
import {
  collect,
  gzipLayer,
  makeImage,
  noise,
  plainLayer,
  TemporaryDirectory,
  type TestImage,
  tar,
  writeLayout,
} from "./image.test-helper.ts";
import { Images } from "./images.ts";
import { sendPart, serveImage, TestServer } from "./registry.test-helper.ts";
import { ContentStore } from "./store/content-store.ts";
import { ingestBytes } from "./store/ingest.ts";

let program: TemporaryDirectory;
beforeAll(async () => {
  program = await TemporaryDirectory.make();
  await bundleProgram(
    program.join("obtain.mjs"),
    `
        import { Images } from "./images.ts";
        const [root, reference] = process.argv.slice(2);
        const images = new Images({ root, env: process.env, firstRetryDelayMs: 2 });
        process.stdout.write((await images.obtain(reference, { pull: "missing" })).manifestDigest);
      `,
    import.meta.dirname,
  );
});
afterAll(() => program[Symbol.asyncDispose]());

function obtainArguments(directory: TemporaryDirectory, reference: string): string[] {
  return [program.join("obtain.mjs"), directory.join("store"), reference];
}

function served(image: TestImage): Parameters<typeof serveImage>[0] {
  return { root: image.manifest, blobs: [image.config, ...image.layers] };
}

describe("several processes", () => {
  it("that pull images with shared layers fetch each blob once", async () => {
    await using directory = await TemporaryDirectory.make();
    const base = gzipLayer(tar([{ name: "base", content: noise(2_000_000, "base") }]));
    const [one, two] = ["one", "two"].map((name) =>
      makeImage({ layers: [base, gzipLayer(tar([{ name }]))] }),
    );
    if (one === undefined || two === undefined) throw new Error("two");
    const [serveOne, serveTwo] = [serveImage(served(one)), serveImage(served(two))];
    await using server = await TestServer.start((request, response) =>
      request.url?.startsWith("/v2/two/") ? serveTwo(request, response) : serveOne(request, response),
    );
    const names = ["one", "two", "one", "two", "one", "two"];
    const digests = await Promise.all(
      names.map((name) =>
        runProgram(process.execPath, obtainArguments(directory, `${server.host}/${name}:1`), {
          env: { HOME: "/nonexistent", PATH: process.env["PATH"] },
        }),
      ),
    );
    expect(digests).toEqual(names.map((name) => (name === "one" ? one : two).manifest.digest));
    const asked = server.requests.map(({ url }) => url).filter((url) => url !== "/v2/");
    expect(asked.length).toBe(new Set(asked).size);
    expect(await readdir(directory.join("store/ingest"))).toEqual([]);
  });

  it("killed in the middle of a pull leave it to be resumed, and no lock", async () => {
    await using directory = await TemporaryDirectory.make();
    const layer = plainLayer(tar([{ name: "big", content: noise(4_000_000, "big") }]));
    const image = makeImage({ layers: [layer] });
    const [part] = image.layers;
    if (part === undefined) throw new Error("it has a layer");
    let isStalling = true;
    await using server = await TestServer.start(
      serveImage(served(image), (request, response) => {
        if (!request.url?.endsWith(part.digest)) return false;
        if (!isStalling) sendPart(request, response, part);
        else {
          response.writeHead(200, { "content-length": part.size });
          response.write(part.bytes.subarray(0, 3_000_000));
        }
        return true;
      }),
    );
    const child = streamProgram("sh", [
      "-c",
      'echo $$; exec "$0" "$@"',
      process.execPath,
      ...obtainArguments(directory, `${server.host}/a:1`),
    ]);
    const pid = await firstLine(child.stdout);
    for (let count = 0; count < 500; count++) {
      const { size } = await partialOf(directory);
      if (size > 2_000_000) break;
      await sleep(20);
    }
    process.kill(Number(pid), "SIGKILL");
    await child.finished.catch(() => {});
    isStalling = false;
    const images = new Images({ root: directory.join("store"), env: {} });
    // What was begun survives a collection, too.
    await images.collectGarbage({ timeoutMs: 1000 });
    const local = await images.obtain(`${server.host}/a:1`, { pull: "missing" });
    expect(server.requests.at(-1)?.range).toMatch(/^bytes=[2-9]\d{6}-/);
    for (const stored of local.layers) {
      expect((await collect(images.openLayer(stored))).equals(layer.tar)).toBe(true);
    }
  });
});

describe("a blob with a wrong bit", () => {
  const damages = [
    ["a packed layer", gzipLayer(tar([{ name: "a", content: noise(50_000, "packed") }]))],
    ["a plain layer", plainLayer(tar([{ name: "a", content: noise(50_000, "plain") }]))],
  ] as const;

  it.each(damages)("in %s is told of, and fetched again by the next pull", async (_what, layer) => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [layer, plainLayer(tar([{ name: "whole" }]))] });
    await using server = await TestServer.start(serveImage(served(image)));
    const images = new Images({ root: directory.join("store"), env: {} });
    const name = `${server.host}/a:1`;
    const local = await images.obtain(name, { pull: "missing" });
    const [damaged, whole] = local.layers;
    if (damaged === undefined || whole === undefined) throw new Error("two");
    const file = blobFile(directory, damaged);
    await flipBit(file, 20_000);
    await expect(collect(images.openLayer(damaged))).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
      message: expect.stringContaining(`layer ${damaged.digest} is damaged in the store`),
      hint: expect.stringContaining("firectl pull"),
    });
    expect(await readdir(path.dirname(file))).toHaveLength(3);
    const requests = server.requests.length;
    await images.obtain(name, { pull: "always" });
    const fetched = server.requests.slice(requests).filter(({ url }) => url?.includes("/blobs/"));
    expect(fetched.map(({ url }) => url)).toEqual([`/v2/a/blobs/${damaged.digest}`]);
    expect((await collect(images.openLayer(damaged))).equals(layer.tar)).toBe(true);
  });

  it("takes nothing away when the layer was made wrong", async () => {
    await using directory = await TemporaryDirectory.make();
    const layer = plainLayer(tar([{ name: "a" }]));
    const image = makeImage({ layers: [{ ...layer, tar: Buffer.from("another") }] });
    await using server = await TestServer.start(serveImage(served(image)));
    const images = new Images({ root: directory.join("store"), env: {} });
    const local = await images.obtain(`${server.host}/a:1`, { pull: "missing" });
    const [wrong] = local.layers;
    if (wrong === undefined) throw new Error("one");
    await expect(collect(images.openLayer(wrong))).rejects.toThrow(`layer ${wrong.digest} unpacks to`);
    await expect(images.verifyLayers(local)).resolves.toBeUndefined();
    expect(await readFile(blobFile(directory, wrong))).toEqual(layer.bytes);
  });

  it.each(["manifest", "config"] as const)("in the %s is mended by a pull", async (what) => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage();
    await using server = await TestServer.start(serveImage(served(image)));
    const images = new Images({ root: directory.join("store"), env: {} });
    const name = `${server.host}/a:1`;
    await images.obtain(name, { pull: "missing" });
    const file = blobFile(directory, image[what]);
    await flipBit(file, 10);
    await images.obtain(name, { pull: "always" });
    expect(await readFile(file)).toEqual(image[what].bytes);
  });

  it("does not end those who read it, nor takes away what came in its place", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = new ContentStore(directory.join("store"));
    await store.prepare();
    const bytes = noise(3_000_000, "replaced");
    const { digest, size } = await ingestBytes(store, bytes);
    const file = store.blobPath(digest);
    await flipBit(file, 0);
    await using reader = await store.openBlob({ digest, size });
    await writeFile(`${file}.new`, bytes);
    const verifying = store.verifyBlob(digest);
    // It has the damaged one open by now, or finds the good one.
    await rename(`${file}.new`, file);
    await verifying.catch((error: unknown) => expect(error).toMatchObject({ code: "DIGEST_MISMATCH" }));
    expect(await store.hasBlob({ digest, size })).toBe(true);
    expect((await reader.readFile()).length).toBe(size);
    await expect(store.verifyBlob(digest)).resolves.toBeUndefined();
  });
});

function blobFile(directory: TemporaryDirectory, { digest }: { digest: Digest }): string {
  return directory.join("store/blobs/sha256", digestHex(digest));
}

async function flipBit(file: string, at: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

async function firstLine(stdout: AsyncIterable<Uint8Array>): Promise<string> {
  for await (const chunk of stdout) return Buffer.from(chunk).toString("utf8").trim();
  throw new Error("it printed nothing");
}

async function partialOf(directory: TemporaryDirectory): Promise<{ size: number }> {
  const ingest = directory.join("store/ingest");
  const names = await readdir(ingest).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(path.join(ingest, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return { size: Math.max(0, ...sizes) };
}

describe("find", () => {
  it("tells one image from the others", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    const images = new Images({ root: directory.join("store"), env: {} });
    const made = Array.from({ length: 20 }, () => makeImage());
    for (const [count, image] of made.entries()) {
      await writeLayout(layout, [{ image, tag: `t${count}` }]);
      await images.obtain(`oci:${layout}:t${count}`, { pull: "missing" });
    }
    for (const [count, image] of made.entries()) {
      const found = await images.find(`oci:${layout}:t${count}`);
      expect(found?.manifestDigest).toBe(image.manifest.digest);
    }
  });

  it("knows nothing in a store that does not exist, and makes none", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = new Images({ root: directory.join("store"), env: {} });
    expect(await images.find("debian")).toBeUndefined();
    expect(await images.list()).toEqual([]);
    await images.mend();
    await expect(images.select("debian")).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
      hint: "firectl images shows those that are; firectl pull debian fetches it",
    });
    for (const digits of ["7", "7c", "sha256:7c"]) {
      await expect(images.select(digits)).rejects.toMatchObject({
        code: "IMAGE_NOT_FOUND",
        hint: "of a digest write at least three digits: firectl images shows them",
      });
    }
    await expect(images.select("7cd")).rejects.toMatchObject({
      hint: expect.stringContaining("firectl pull 7cd"),
    });
    expect(await readdir(directory.path)).toEqual([]);
  });
});

describe("hold", () => {
  it("keeps the layers of an image that is removed meanwhile", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    await writeLayout(layout, [{ image: makeImage(), tag: "t" }]);
    const images = new Images({ root: directory.join("store"), env: {} });
    const local = await images.obtain(`oci:${layout}`, { pull: "missing" });
    await images.hold(undefined, async () => {
      const { items } = await images.select(`oci:${layout}`);
      await images.forget({ digests: new Set(items.map(({ entry }) => entry.digest)) });
      await expect(images.collectGarbage({ timeoutMs: 50 })).rejects.toMatchObject({ code: "LOCK_TIMEOUT" });
      expect(await images.find(`oci:${layout}`)).toBeUndefined();
      for (const layer of local.layers)
        expect((await collect(images.openLayer(layer))).length).toBeGreaterThan(0);
    });
    expect(await images.collectGarbage({ timeoutMs: 1000 })).toMatchObject({ blobs: 3 });
  });
});
