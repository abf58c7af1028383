import { mkdir, readdir, readFile, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { digestHex } from "../../core/brands.ts";
import { blob, chunksOf, noise, TemporaryDirectory } from "../image.test-helper.ts";
import { type BlobDescriptor, ContentStore } from "./content-store.ts";
import { collectGarbage } from "./gc.ts";
import { type IndexEntry, readIndex, rewriteIndex } from "./index-file.ts";
import { ingestBlob, ingestBytes, ingestStream } from "./ingest.ts";

const part = blob("application/octet-stream", noise(1_500_000, "blob"));

async function emptyStore(directory: TemporaryDirectory): Promise<ContentStore> {
  const store = new ContentStore(directory.join("store"));
  await store.prepare();
  return store;
}

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";

function indexEntry(blob: BlobDescriptor, mediaType: string): IndexEntry {
  return { ...blob, mediaType, reference: undefined, platform: undefined, origin: undefined };
}

/** Names manifests in the index. */
async function enter(store: ContentStore, ...manifests: readonly BlobDescriptor[]): Promise<void> {
  const added = manifests.map((manifest) => indexEntry(manifest, MANIFEST_TYPE));
  await store.updateIndex((entries) => [...entries, ...added]);
}

/** A manifest of layers made of texts, and of blobs that are there already. */
async function ingestManifest(
  store: ContentStore,
  texts: readonly string[],
  others: readonly BlobDescriptor[] = [],
): Promise<{ manifest: BlobDescriptor; layers: readonly BlobDescriptor[] }> {
  const layers = await Promise.all(texts.map((text) => ingestBytes(store, Buffer.from(text))));
  const descriptors = [...layers, ...others].map(({ digest }) => ({ digest, mediaType: "a/layer" }));
  const manifest = await ingestBytes(store, Buffer.from(JSON.stringify({ layers: descriptors })));
  return { manifest, layers };
}

function reading(bytes: Uint8Array, offsets: number[] = []): (offset: number) => AsyncIterable<Uint8Array> {
  return (offset) => {
    offsets.push(offset);
    return chunksOf(bytes.subarray(offset), 65_536);
  };
}

describe("ingestBlob", () => {
  it("takes a blob once, and leaves nothing beside it", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    expect(await ingestBlob(store, part, { read: reading(part.bytes) })).toBe(true);
    expect(await ingestBlob(store, part, { read: reading(part.bytes) })).toBe(false);
    expect((await readFile(store.blobPath(part.digest))).equals(part.bytes)).toBe(true);
    expect(await readdir(directory.join("store/ingest"))).toEqual([]);
  });

  it("lets one of many fetch it", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const offsets: number[] = [];
    const ingest = (): Promise<boolean> => ingestBlob(store, part, { read: reading(part.bytes, offsets) });
    const came = await Promise.all(Array.from({ length: 8 }, ingest));
    expect(came.filter(Boolean)).toHaveLength(1);
    expect(offsets).toEqual([0]);
  });

  it.each([0, 1, 65_536, 1_499_999, 1_500_000])("goes on from the %i bytes that are there", async (size) => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    await writeFile(store.partialPath(part.digest), part.bytes.subarray(0, size));
    const offsets: number[] = [];
    await ingestBlob(store, part, { read: reading(part.bytes, offsets) });
    expect(offsets).toEqual(size === part.size ? [] : [size]);
    expect((await readFile(store.blobPath(part.digest))).equals(part.bytes)).toBe(true);
  });

  it.each<[string, Buffer]>([
    ["zeros, as a power cut leaves them", Buffer.alloc(70_000)],
    ["more than the blob", Buffer.alloc(2_000_000)],
    ["all of it but wrong", Buffer.alloc(1_500_000)],
  ])("starts again when what is there is %s", async (_name, rubbish) => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    await writeFile(store.partialPath(part.digest), rubbish);
    expect(await ingestBlob(store, part, { read: reading(part.bytes) })).toBe(true);
    expect((await readFile(store.blobPath(part.digest))).equals(part.bytes)).toBe(true);
  });

  it.each<[string, Buffer, RegExp]>([
    ["one byte short", part.bytes.subarray(0, -1), /ends after 1499999 of 1500000 bytes/],
    ["one byte long", Buffer.concat([part.bytes, Buffer.from("x")]), /longer than the 1500000 bytes/],
    ["of the right size but other bytes", noise(1_500_000, "other"), /has the digest sha256:/],
  ])("refuses bytes that are %s, and keeps nothing", async (_name, bytes, message) => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    await expect(ingestBlob(store, part, { read: reading(bytes) })).rejects.toMatchObject({
      code: "DIGEST_MISMATCH",
      message: expect.stringMatching(message),
    });
    expect(await store.hasBlob(part)).toBe(false);
    expect(await readdir(directory.join("store/ingest"))).toEqual([]);
  });

  it("keeps what came before a failure, for the next attempt", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const breaking = async function* (offset: number): AsyncGenerator<Uint8Array> {
      yield part.bytes.subarray(offset, 700_000);
      throw new Error("the line is cut");
    };
    await expect(ingestBlob(store, part, { read: breaking })).rejects.toThrow("the line is cut");
    const offsets: number[] = [];
    await ingestBlob(store, part, { read: reading(part.bytes, offsets) });
    expect(offsets).toEqual([700_000]);
  });

  it("takes an empty blob", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const empty = blob("x", Buffer.alloc(0));
    expect(await ingestBlob(store, empty, { read: reading(empty.bytes) })).toBe(true);
    expect(await store.hasBlob(empty)).toBe(true);
  });

  it("ends its wait for another process when it is aborted", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const signal = AbortSignal.timeout(100);
    await store.exclusively(part.digest, undefined, async () => {
      await expect(ingestBlob(store, part, { read: reading(part.bytes), signal })).rejects.toMatchObject({
        name: "TimeoutError",
      });
    });
  });
});

describe("a blob in the store", () => {
  it("is refused when its size has changed", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const stored = await ingestStream(store, chunksOf(part.bytes, 1000));
    expect(stored).toEqual({ digest: part.digest, size: part.size });
    await writeFile(store.blobPath(part.digest), "short");
    expect(await store.hasBlob(part)).toBe(false);
    await expect(store.openBlob(part)).rejects.toMatchObject({ code: "LAYER_INVALID" });
  });

  it("is refused when it is small and its bytes have changed", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const stored = await ingestBytes(store, Buffer.from("manifest"));
    await writeFile(store.blobPath(stored.digest), "Manifest");
    await expect(store.readBlob(stored)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
  });
});

describe("leftovers", () => {
  it("are those of processes that have ended", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const ingest = directory.join("store/ingest");
    const own = [store.temporaryPath(), store.containerNotePath("c")];
    const dead = [`${ingest}/${process.pid}-1.x.tmp`, `${ingest}/4194305-5.name.with.dots.container`];
    const others = [store.partialPath(part.digest), `${ingest}/odd`];
    for (const file of [...own, ...dead, ...others]) await writeFile(file, "");
    const found = [...(await store.leftovers())].sort((a, b) => a.file.length - b.file.length);
    expect(found).toEqual([
      { file: dead[0], container: undefined },
      { file: dead[1], container: "name.with.dots" },
    ]);
  });
});

describe("index.json", () => {
  const entry = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: part.digest,
    size: 5,
    reference: "docker.io/library/a:1",
    platform: { os: "linux", architecture: "amd64" },
    origin: "o",
  };

  it("keeps other tools' entries and fields", async () => {
    await using directory = await TemporaryDirectory.make();
    const foreign = { mediaType: "x/y", digest: "sha512:00", size: 1, extra: [1] };
    await writeFile(
      directory.join("index.json"),
      JSON.stringify({ schemaVersion: 2, own: 1, manifests: [foreign] }),
    );
    await rewriteIndex(directory.path, () => [entry]);
    const written = JSON.parse(await readFile(directory.join("index.json"), "utf8"));
    expect(written).toMatchObject({ schemaVersion: 2, own: 1 });
    expect(written.manifests[0]).toEqual(foreign);
    expect(await readIndex(directory.path)).toMatchObject([entry]);
  });

  it.each([["{"], ["null"], ["[]"], ["{}"], ['{"manifests":{}}']])(
    "is never overwritten when it is %s",
    async (text) => {
      await using directory = await TemporaryDirectory.make();
      await writeFile(directory.join("index.json"), text);
      const rewriting = rewriteIndex(directory.path, () => [entry]);
      await expect(rewriting).rejects.toMatchObject({ code: "STATE_CORRUPT" });
      expect(await readFile(directory.join("index.json"), "utf8")).toBe(text);
    },
  );

  it("loses nothing when many write at once", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const names = Array.from({ length: 20 }, (_, index) => `docker.io/library/a:${index}`);
    await Promise.all(
      names.map((reference) => store.updateIndex((entries) => [...entries, { ...entry, reference }])),
    );
    const found = (await store.index()).map(({ reference }) => reference ?? "");
    expect(found.sort()).toEqual(names.sort());
  });
});

describe("collectGarbage", () => {
  it("keeps what is named, and what others' manifests name", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const [used, child, unused] = await Promise.all(
      ["used", "child", "unused"].map((text) => ingestBytes(store, Buffer.from(text))),
    );
    if (used === undefined || child === undefined || unused === undefined) throw new Error("three");
    const manifest = await ingestBytes(
      store,
      Buffer.from(
        JSON.stringify({
          config: { digest: used.digest },
          layers: [{ digest: child.digest, mediaType: "odd" }],
        }),
      ),
    );
    const index = await ingestBytes(
      store,
      Buffer.from(
        JSON.stringify({
          manifests: [
            { digest: manifest.digest, mediaType: "application/vnd.oci.image.manifest.v1+json" },
            "odd",
          ],
        }),
      ),
    );
    await store.updateIndex((entries) => [
      ...entries,
      {
        ...index,
        mediaType: "application/vnd.oci.image.index.v1+json",
        reference: undefined,
        platform: undefined,
        origin: undefined,
      },
    ]);
    const day = 24 * 3600;
    const ingest = directory.join("store/ingest");
    for (const name of ["a.tmp", `${"1".repeat(64)}.partial`, `${"2".repeat(64)}.partial`]) {
      await writeFile(`${ingest}/${name}`, "x");
    }
    const old = Date.now() / 1000 - day - 60;
    await utimes(`${ingest}/${"2".repeat(64)}.partial`, old, old);
    await store.writeDescription(unused.digest, "{}");

    expect(await store.alone(1000, () => collectGarbage(store))).toMatchObject({ blobs: 1, partials: 2 });
    const kept = [used, child, manifest, index].map(({ digest }) => digestHex(digest));
    expect((await readdir(directory.join("store/blobs/sha256"))).sort()).toEqual(kept.sort());
    expect(await readdir(ingest)).toEqual([`${"1".repeat(64)}.partial`]);
    expect(await readdir(directory.join("store/images"))).toEqual([]);
    expect((await readdir(directory.join("store/locks"))).sort()).toEqual(["index.lock", "store.lock"]);
  });

  it("waits for those who use the store", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    await store.hold(undefined, () =>
      store.hold(undefined, async () => {
        const collecting = store.alone(50, () => collectGarbage(store));
        await expect(collecting).rejects.toMatchObject({ code: "LOCK_TIMEOUT" });
      }),
    );
    expect(await store.alone(50, () => collectGarbage(store))).toMatchObject({ blobs: 0, bytes: 0 });
  });

  it("touches nothing when the index cannot be read", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const stored = await ingestBytes(store, Buffer.from("x"));
    await writeFile(directory.join("store/index.json"), "{");
    await expect(collectGarbage(store)).rejects.toMatchObject({ code: "STATE_CORRUPT" });
    expect(await store.hasBlob(stored)).toBe(true);
  });

  it("keeps what a manifest leads to that another image has named as its layer", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const good = await ingestManifest(store, ["layer of good"]);
    // Whichever is looked at first.
    const evil = await ingestManifest(store, [], [good.manifest]);
    const other = await ingestManifest(store, [], [good.manifest, evil.manifest]);
    await enter(store, other.manifest, good.manifest, evil.manifest);
    expect(await collectGarbage(store)).toMatchObject({ blobs: 0 });
    await store.updateIndex(() => []);
    await enter(store, evil.manifest, good.manifest, other.manifest);
    expect(await collectGarbage(store)).toMatchObject({ blobs: 0 });
    expect(await Promise.all(good.layers.map((layer) => store.hasBlob(layer)))).toEqual([true]);
  });

  it("follows indexes however deep they are", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const { manifest, layers } = await ingestManifest(store, ["deep"]);
    let top: BlobDescriptor = manifest;
    for (let depth = 0; depth < 12; depth++) {
      const mediaType = depth === 0 ? MANIFEST_TYPE : INDEX_TYPE;
      const manifests = [{ digest: top.digest, mediaType }];
      top = await ingestBytes(store, Buffer.from(JSON.stringify({ manifests })));
    }
    await store.updateIndex(() => [indexEntry(top, INDEX_TYPE)]);
    expect(await collectGarbage(store)).toMatchObject({ blobs: 0 });
    expect(await Promise.all(layers.map((layer) => store.hasBlob(layer)))).toEqual([true]);
  });

  it.each<[string, string, (file: string, bytes: Buffer) => Promise<void>]>([
    [
      "has a wrong bit",
      "DIGEST_MISMATCH",
      async (file, bytes) => {
        bytes[5] = (bytes[5] ?? 0) ^ 1;
        await writeFile(file, bytes);
      },
    ],
    ["is cut off", "DIGEST_MISMATCH", (file) => truncate(file, 10)],
    [
      "cannot be opened",
      "IO_FAILED",
      async (file) => {
        await rm(file);
        await symlink(file, file);
      },
    ],
    [
      "cannot be read",
      "IO_FAILED",
      async (file) => {
        await rm(file);
        await mkdir(file);
      },
    ],
  ])("deletes nothing while a manifest %s, time and again", async (_what, code, spoil) => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const { manifest, layers } = await ingestManifest(store, ["one", "two"]);
    const unused = await ingestBytes(store, Buffer.from("unused"));
    await enter(store, manifest);
    await writeFile(store.partialPath(part.digest), "x");
    const file = store.blobPath(manifest.digest);
    await spoil(file, await readFile(file));
    for (let time = 0; time < 2; time++) {
      const collecting = collectGarbage(store, { partialLifetimeMs: Number.NEGATIVE_INFINITY });
      await expect(collecting).rejects.toMatchObject({
        code,
        message: expect.stringContaining(digestHex(manifest.digest)),
      });
    }
    const there = await Promise.all([...layers, unused].map((blob) => store.hasBlob(blob)));
    expect(there).toEqual([true, true, true]);
    expect(await readdir(directory.join("store/ingest"))).toHaveLength(1);
    // Once it is forgotten, what only it used goes.
    await store.updateIndex(() => []);
    await rm(file, { recursive: true, force: true });
    expect(await collectGarbage(store)).toMatchObject({ blobs: 3 });
  });

  it("takes a manifest that is not there, or no JSON, as one that leads nowhere", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const text = await ingestBytes(store, Buffer.from("no manifest"));
    await enter(store, text, part);
    await ingestBytes(store, Buffer.from("unused"));
    expect(await collectGarbage(store)).toMatchObject({ blobs: 1 });
    expect(await store.hasBlob(text)).toBe(true);
  });

  it("takes an interrupted download from the future for an old one", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    const partial = store.partialPath(part.digest);
    for (const options of [{}, { partialLifetimeMs: Number.NEGATIVE_INFINITY }]) {
      await writeFile(partial, "x");
      const future = Date.now() / 1000 + 3600;
      await utimes(partial, future, future);
      expect(await collectGarbage(store, options)).toMatchObject({ partials: 1 });
    }
  });

  it("leaves alone what is no blob", async () => {
    await using directory = await TemporaryDirectory.make();
    const store = await emptyStore(directory);
    await mkdir(directory.join("store/blobs/sha256/dir"));
    expect(await collectGarbage(store)).toMatchObject({ blobs: 0, bytes: 0 });
    expect(await readdir(directory.join("store/blobs/sha256"))).toEqual(["dir"]);
  });
});
