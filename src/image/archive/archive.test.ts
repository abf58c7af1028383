import { open, readdir, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { dir, file, hardLink, symlink, type TestEntry, tarOf } from "../../tar/tar-builder.test-helper.ts";
import {
  chunksOf,
  collect,
  descriptor,
  gzipLayer,
  json,
  makeImage,
  makeIndex,
  noise,
  plainLayer,
  TemporaryDirectory,
  type TestImage,
  tar,
} from "../image.test-helper.ts";
import { Images } from "../images.ts";
import { sha256 } from "../store/content-store.ts";

const layerTar = tar([{ name: "hello", content: noise(5_000, "hello") }]);
const bigTar = tar([{ name: "big", content: noise(3_000_000, "big") }]);
const hex = (digest: string): string => digest.replace("sha256:", "");

/** An OCI archive of images with names. */
function ociArchive(
  images: readonly { image: TestImage; annotations?: object; platform?: object }[],
): TestEntry[] {
  const blobs = images.flatMap(({ image }) => [image.manifest, image.config, ...image.layers]);
  const unique = new Map(blobs.map((blob) => [blob.digest, blob]));
  return [
    dir("blobs/sha256/"),
    ...[...unique.values()].map((blob) => file(`blobs/sha256/${hex(blob.digest)}`, blob.bytes)),
    file("oci-layout", '{"imageLayoutVersion":"1.0.0"}'),
    file(
      "index.json",
      json({
        schemaVersion: 2,
        manifests: images.map(({ image, ...rest }) => ({ ...descriptor(image.manifest), ...rest })),
      }),
    ),
  ];
}

/** An archive as Docker before 25 saved it. */
function dockerArchive(
  image: TestImage,
  options: { tags?: readonly string[] | null; layerNames?: readonly string[]; manifest?: unknown } = {},
): TestEntry[] {
  const names = options.layerNames ?? image.tars.map((bytes) => `${hex(sha256(bytes))}/layer.tar`);
  const config = `${hex(image.config.digest)}.json`;
  const saved = [{ Config: config, RepoTags: options.tags ?? null, Layers: names }];
  return [
    ...image.tars.map((bytes, index) => file(names[index] ?? "", bytes)),
    file(config, image.config.bytes),
    file("manifest.json", json(options.manifest ?? saved)),
  ];
}

const NAMED = { "org.opencontainers.image.ref.name": "example.com/app:1" };

/** Both ways in: a file, read in place, and a stream, spooled. */
const WAYS = ["file", "stream"] as const;

async function load(
  directory: TemporaryDirectory,
  entries: readonly TestEntry[] | Buffer,
  way: (typeof WAYS)[number],
): Promise<{ images: Images; loaded: Awaited<ReturnType<Images["load"]>> }> {
  const bytes = Buffer.isBuffer(entries) ? entries : tarOf(entries);
  const images = new Images({ root: directory.join("store"), env: process.env });
  if (way === "stream") {
    // Pieces that end anywhere, in headers too.
    return { images, loaded: await images.load({ chunks: chunksOf(bytes, 10_007), label: "the stream" }) };
  }
  await writeFile(directory.join("archive.tar"), bytes);
  return { images, loaded: await images.load({ file: directory.join("archive.tar") }) };
}

describe.each(WAYS)("an archive that comes as a %s", (way) => {
  it("holds several images, by all their names and without any", async () => {
    await using directory = await TemporaryDirectory.make();
    const [a, b, c] = [makeImage(), makeImage({ layers: [gzipLayer(bigTar)] }), makeImage()];
    const { images, loaded } = await load(
      directory,
      ociArchive([
        {
          image: a,
          annotations: {
            "io.containerd.image.name": "docker.io/library/a:1",
            "org.opencontainers.image.ref.name": "1",
          },
        },
        { image: a, annotations: { "org.opencontainers.image.ref.name": "localhost/also-a" } },
        { image: b, annotations: NAMED },
        // A tag alone is no name.
        { image: c, annotations: { "org.opencontainers.image.ref.name": "v1" } },
      ]),
      way,
    );
    expect(loaded.map(({ names, image }) => [names, image.manifestDigest])).toEqual([
      [["docker.io/library/a:1", "localhost/also-a:latest"], a.manifest.digest],
      [["example.com/app:1"], b.manifest.digest],
      [[], c.manifest.digest],
    ]);
    const nameless = await images.find(c.manifest.digest);
    expect(nameless?.configDigest).toBe(c.config.digest);
    const found = await images.obtain("example.com/app:1", { pull: "never" });
    for (const layer of found.layers)
      expect((await collect(images.openLayer(layer))).equals(bigTar)).toBe(true);
    // Loading it again changes nothing.
    const before = (await images.list()).length;
    await load(directory, ociArchive([{ image: c }]), way);
    expect(await images.list()).toHaveLength(before);
    expect(await images.collectGarbage({ timeoutMs: 1000 })).toMatchObject({ blobs: 0 });
  });

  it("may have an index for several platforms, and lack the blobs of the others", async () => {
    await using directory = await TemporaryDirectory.make();
    const [own, other] = [makeImage(), makeImage({ architecture: "s390x" })];
    const index = makeIndex([
      { manifest: other.manifest, platform: { os: "linux", architecture: "s390x" } },
      {
        manifest: own.manifest,
        platform: { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch },
      },
    ]);
    const { loaded } = await load(
      directory,
      [
        ...ociArchive([{ image: own }]).filter(({ name }) => name !== "index.json"),
        file(`blobs/sha256/${hex(index.digest)}`, index.bytes),
        file(
          "index.json",
          json({ schemaVersion: 2, manifests: [{ ...descriptor(index), annotations: NAMED }] }),
        ),
      ],
      way,
    );
    expect(loaded.map(({ image }) => image.manifestDigest)).toEqual([own.manifest.digest]);
  });

  it("is Docker's new form: a layout, and manifest.json beside it", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [gzipLayer(bigTar)] });
    const blob = (digest: string): string => `blobs/sha256/${hex(digest)}`;
    const [layer] = image.layers;
    const saved = [
      {
        Config: blob(image.config.digest),
        RepoTags: ["app:1"],
        Layers: [blob(layer?.digest ?? "")],
        LayerSources: { [sha256(bigTar)]: descriptor(image.config) },
      },
    ];
    const { images, loaded } = await load(
      directory,
      [
        ...ociArchive([
          {
            image,
            annotations: {
              "io.containerd.image.name": "docker.io/library/app:1",
              "org.opencontainers.image.ref.name": "1",
            },
          },
        ]),
        file("manifest.json", json(saved)),
        file("repositories", '{"app":{"1":"x"}}'),
      ],
      way,
    );
    expect(loaded.map(({ names }) => names)).toEqual([["docker.io/library/app:1"]]);
    expect(loaded[0]?.image.manifestDigest).toBe(image.manifest.digest);
    if (way === "stream") return;
    const archive = directory.join("archive.tar");
    for (const reference of [
      `docker-archive:${archive}:app:1`,
      `oci-archive:${archive}:1`,
      `oci-archive:${archive}:app:1`,
    ]) {
      expect((await images.obtain(reference, { pull: "never" })).manifestDigest).toBe(image.manifest.digest);
    }
  });

  it("is Docker's old form: links for layers that are there already, ./ before names", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({
      layers: [plainLayer(bigTar), plainLayer(layerTar), plainLayer(bigTar), plainLayer(bigTar)],
    });
    const entries: TestEntry[] = [
      dir("./one/"),
      file("./one/layer.tar", bigTar),
      file("./one/VERSION", "1.0"),
      file("two.tar", layerTar),
      symlink("three/layer.tar", "../one/layer.tar"),
      // A link to a directory on the way, and a hard link.
      symlink("four", "one"),
      hardLink("five.tar", "./four/layer.tar"),
      ...dockerArchive(image, {
        tags: ["app:1", "other:2"],
        layerNames: ["one/layer.tar", "two.tar", "three/layer.tar", "five.tar"],
      }).slice(4),
    ];
    const { images, loaded } = await load(directory, entries, way);
    expect(loaded.map(({ names }) => names)).toEqual([
      ["docker.io/library/app:1", "docker.io/library/other:2"],
    ]);
    const [first] = loaded;
    expect(first?.image.configDigest).toBe(image.config.digest);
    const read = await Promise.all(
      (first?.image.layers ?? []).map((layer) => collect(images.openLayer(layer))),
    );
    expect(read.map((bytes) => bytes.length)).toEqual(
      [bigTar, layerTar, bigTar, bigTar].map((bytes) => bytes.length),
    );
  });

  it("may have compressed layers under Docker's manifest.json", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [plainLayer(bigTar)] });
    const [, ...rest] = dockerArchive(image, { tags: ["app"], layerNames: ["layer.tar.gz"] });
    const { images, loaded } = await load(directory, [file("layer.tar.gz", gzipSync(bigTar)), ...rest], way);
    const [layer] = loaded[0]?.image.layers ?? [];
    expect(layer?.mediaType).toBe("application/vnd.oci.image.layer.v1.tar+gzip");
    if (layer !== undefined) expect((await collect(images.openLayer(layer))).equals(bigTar)).toBe(true);
  });

  it.each([
    ["nothing", Buffer.alloc(0), /^archive .+: it is empty$/],
    [
      "a text",
      Buffer.from("root:x:0:0:root\n".repeat(100)),
      /^.+ is not a tar archive: it does not begin with a tar header$/,
    ],
  ])("of %s says what an archive is, and quotes nothing", async (_, content, message) => {
    await using directory = await TemporaryDirectory.make();
    await expect(load(directory, content, way)).rejects.toMatchObject({
      code: "ARCHIVE_INVALID",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/^an archive of images is what docker save, .* there is firectl import$/),
    });
  });

  it.each<[string, () => readonly TestEntry[] | Buffer, string, string]>([
    ["an empty tar", () => [], "ARCHIVE_INVALID", "it is empty"],
    ["an empty file", () => Buffer.alloc(0), "ARCHIVE_INVALID", "it is empty"],
    ["a tar of something else", () => [file("etc/passwd")], "ARCHIVE_INVALID", "it has neither index.json"],
    [
      "no tar",
      () => Buffer.from("#!/bin/sh\n".repeat(100)),
      "ARCHIVE_INVALID",
      " is not a tar archive: it does not begin with a tar header",
    ],
    [
      "less than a tar's header",
      () => Buffer.from("login\nsystem"),
      "ARCHIVE_INVALID",
      " is not a tar archive: the archive ends",
    ],
    [
      "a tar that is cut within a member",
      () => tarOf(ociArchive([{ image: makeImage({ layers: [gzipLayer(bigTar)] }) }])).subarray(0, 2_000_000),
      "ARCHIVE_INVALID",
      "the archive ends in the middle of an entry",
    ],
    [
      "a gzip stream that is cut",
      () => gzipSync(tarOf(ociArchive([{ image: makeImage() }]))).subarray(0, 300),
      "ARCHIVE_INVALID",
      "cannot be unpacked",
    ],
    [
      "a name that leads out",
      () => [file("../../etc/cron.d/x")],
      "ARCHIVE_INVALID",
      'member "../../etc/cron.d/x": its name leads out',
    ],
    [
      "the same name twice",
      () => [file("manifest.json", "[]"), file("./manifest.json", "[]")],
      "ARCHIVE_INVALID",
      'member "manifest.json": it is there twice',
    ],
    [
      "a link for a file that is there",
      () => [file("manifest.json", "[]"), symlink("manifest.json", "x")],
      "ARCHIVE_INVALID",
      "it is there twice",
    ],
    [
      "links in a circle",
      () => [symlink("manifest.json", "a"), symlink("a", "b"), symlink("b", "a")],
      "ARCHIVE_INVALID",
      "its links lead in a circle",
    ],
    [
      "a link to itself through a directory",
      () => [symlink("manifest.json", "manifest.json/x")],
      "ARCHIVE_INVALID",
      "its links lead in a circle",
    ],
    [
      "a link out of the archive",
      () => [symlink("manifest.json", "../../../etc/passwd")],
      "ARCHIVE_INVALID",
      "it has neither",
    ],
    [
      "an absolute link",
      () => [symlink("manifest.json", "/etc/passwd")],
      "ARCHIVE_INVALID",
      "it has neither",
    ],
    [
      "a name that is long",
      () => [file("x", "", { pax: [["path", "a/".repeat(100_000)]] })],
      "ARCHIVE_INVALID",
      "a name of more than 4096 bytes",
    ],
    [
      "a link that is long",
      () => [symlink("manifest.json", "x", { pax: [["linkpath", "a/".repeat(100_000)]] })],
      "ARCHIVE_INVALID",
      "a name of more than 4096 bytes",
    ],
    [
      "a list that is no JSON",
      () => [file("manifest.json", "[")],
      "ARCHIVE_INVALID",
      'member "manifest.json": it is not JSON',
    ],
    [
      "a list of something else",
      () => [file("manifest.json", '[{"Config":1}]')],
      "ARCHIVE_INVALID",
      'member "manifest.json": 0.Config',
    ],
    [
      "a list that is huge",
      () => [file("manifest.json", Buffer.alloc(5_000_000, 0x20))],
      "ARCHIVE_INVALID",
      "at most 4194304 are read",
    ],
    ["no images", () => [file("manifest.json", "[]")], "ARCHIVE_INVALID", "it holds no image"],
    [
      "an index that is none",
      () => [file("index.json", "{}")],
      "MANIFEST_INVALID",
      'member "index.json" is not valid',
    ],
    [
      "a configuration outside",
      () => dockerArchive(makeImage(), { manifest: [{ Config: "../config", Layers: [] }] }),
      "ARCHIVE_INVALID",
      'member "../config": it is not there',
    ],
    [
      "a name that is none",
      () => dockerArchive(makeImage(), { tags: ["NOT A NAME"] }),
      "ARCHIVE_INVALID",
      '"NOT A NAME" is not an image\'s name',
    ],
    [
      "a layer that is missing",
      () => dockerArchive(makeImage({ layers: [plainLayer(layerTar)] }), { tags: ["a"] }).slice(1),
      "ARCHIVE_INVALID",
      '/layer.tar": it is not there',
    ],
    [
      "another number of layers than the configuration names",
      () =>
        dockerArchive(makeImage({ layers: [plainLayer(layerTar), plainLayer(bigTar)] }), {
          layerNames: ["one.tar"],
        }),
      "MANIFEST_INVALID",
      "it names 2 layers, its manifest 1",
    ],
    [
      "a layer of other bytes",
      () => [
        ...dockerArchive(makeImage({ layers: [plainLayer(layerTar)] }), {
          layerNames: ["the-layer.tar"],
        }).slice(1),
        file("the-layer.tar", tar([{ name: "hello", content: noise(5_000, "other") }])),
      ],
      "DIGEST_MISMATCH",
      'member "the-layer.tar": ',
    ],
    [
      "a large layer of other bytes",
      () => [
        ...dockerArchive(makeImage({ layers: [plainLayer(bigTar)] }), {
          layerNames: ["the-layer.tar"],
        }).slice(1),
        file("the-layer.tar", tar([{ name: "big", content: noise(3_000_000, "other") }])),
      ],
      "DIGEST_MISMATCH",
      'member "the-layer.tar": ',
    ],
    [
      "a configuration of other bytes",
      () => {
        const entries = dockerArchive(makeImage({ layers: [plainLayer(layerTar)] }));
        return entries.map((entry) =>
          entry.name.endsWith(".json") && entry.name.length > 60 ? { ...entry, data: "{}" } : entry,
        );
      },
      "DIGEST_MISMATCH",
      '.json": it has the digest',
    ],
    [
      "a blob of other bytes",
      () => {
        const image = makeImage({ layers: [plainLayer(bigTar)] });
        return ociArchive([{ image }]).map((entry) =>
          entry.name.endsWith(hex(image.layers[0]?.digest ?? "?"))
            ? { ...entry, data: noise(bigTar.length, "x") }
            : entry,
        );
      },
      "DIGEST_MISMATCH",
      'member "blobs/sha256/',
    ],
    [
      "a blob that is shorter than its descriptor says",
      () => {
        const image = makeImage({ layers: [plainLayer(layerTar)] });
        return ociArchive([{ image }]).map((entry) =>
          entry.name.endsWith(hex(image.layers[0]?.digest ?? "?"))
            ? { ...entry, data: layerTar.subarray(0, 100) }
            : entry,
        );
      },
      "DIGEST_MISMATCH",
      `it has 100 bytes, ${layerTar.length} were announced`,
    ],
    [
      "a manifest that is missing",
      () =>
        ociArchive([{ image: makeImage() }]).filter(
          ({ name }) => !name.startsWith("blobs/sha256/") || name.endsWith("/"),
        ),
      "ARCHIVE_INVALID",
      "it is not there",
    ],
    [
      "a member whose size lies",
      () => Buffer.concat([tarOf([file("manifest.json", "[]", { size: 10 ** 12 })])]),
      "ARCHIVE_INVALID",
      "",
    ],
    [
      "a sparse file",
      () => [
        file("manifest.json", "x".repeat(512), {
          pax: [
            ["GNU.sparse.major", "0"],
            ["GNU.sparse.minor", "1"],
            ["GNU.sparse.size", "1000000000000"],
            ["GNU.sparse.map", "0,512"],
          ],
        }),
      ],
      "ARCHIVE_INVALID",
      "it is stored as a sparse file",
    ],
    [
      "an image for another machine",
      () => ociArchive([{ image: makeImage({ architecture: "s390x" }) }]),
      "PLATFORM_MISSING",
      "linux/s390x",
    ],
  ])("is refused for %s", async (_what, entries, code, message) => {
    await using directory = await TemporaryDirectory.make();
    await expect(load(directory, entries(), way)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
    const images = new Images({ root: directory.join("store"), env: process.env });
    expect(await images.list()).toEqual([]);
  });
});

it("gives up a stream that is silent when it is told to", async () => {
  await using directory = await TemporaryDirectory.make();
  const controller = new AbortController();
  let hasBegun = (): void => {};
  const begun = new Promise<void>((resolve) => {
    hasBegun = resolve;
  });
  async function* silent(): AsyncGenerator<Uint8Array> {
    yield tarOf([file("blobs/sha256/x", bigTar)]).subarray(0, 2_000_000);
    hasBegun();
    await new Promise(() => {});
  }
  const images = new Images({ root: directory.join("store"), env: process.env });
  const loading = images.load({ chunks: silent(), label: "x" }, { signal: controller.signal });
  await begun;
  controller.abort(new Error("enough"));
  await expect(loading).rejects.toThrow("enough");
  // Nothing is left, and nobody holds the store.
  expect(await images.collectGarbage({ timeoutMs: 1000 })).toMatchObject({ blobs: 0 });
  expect(await readdir(directory.join("store/ingest"))).toEqual([]);
});

it("reads the headers of a seekable archive, and no more than the wanted blobs", async () => {
  await using directory = await TemporaryDirectory.make();
  const [wanted, other] = [
    makeImage(),
    makeImage({ layers: [plainLayer(tar([{ name: "x", content: noise(9_000_000, "x") }]))] }),
  ];
  const archive = directory.join("archive.tar");
  await writeFile(
    archive,
    tarOf(
      ociArchive([
        { image: other, annotations: { "org.opencontainers.image.ref.name": "other" } },
        { image: wanted, annotations: { "org.opencontainers.image.ref.name": "wanted" } },
      ]),
    ),
  );
  // What belongs to the other image is damaged, which nobody notices.
  const handle = await open(archive, "r+");
  await handle.write(Buffer.alloc(1_000_000, 0xff), 0, 1_000_000, 2_000_000);
  await handle.close();
  const images = new Images({ root: directory.join("store"), env: process.env });
  const image = await images.obtain(`oci-archive:${archive}:wanted`, { pull: "missing" });
  expect(image.manifestDigest).toBe(wanted.manifest.digest);
  await expect(images.obtain(`oci-archive:${archive}:other`, { pull: "missing" })).rejects.toMatchObject({
    code: "DIGEST_MISMATCH",
    message: expect.stringContaining(`archive ${archive}, member "blobs/sha256/`),
  });
});

describe("docker-archive:FILE[:REF]", () => {
  it("chooses by name or number, and lists what there is when it cannot", async () => {
    await using directory = await TemporaryDirectory.make();
    const [a, b] = [
      makeImage({ layers: [plainLayer(layerTar)] }),
      makeImage({ layers: [plainLayer(bigTar)] }),
    ];
    const [layerA, configA] = dockerArchive(a);
    const [layerB, configB] = dockerArchive(b);
    const archive = directory.join("archive.tar");
    const entry = (image: TestImage, tag: string): unknown => ({
      Config: `${hex(image.config.digest)}.json`,
      RepoTags: [tag],
      Layers: image.tars.map((bytes) => `${hex(sha256(bytes))}/layer.tar`),
    });
    const parts = [layerA, configA, layerB, configB].filter((part) => part !== undefined);
    await writeFile(
      archive,
      tarOf([...parts, file("manifest.json", json([entry(a, "a:1"), entry(b, "b:2")]))]),
    );
    const images = new Images({ root: directory.join("store"), env: process.env });
    const obtain = (suffix: string): Promise<unknown> =>
      images.obtain(`docker-archive:${archive}${suffix}`, { pull: "missing" });
    expect(await obtain(":b:2")).toMatchObject({ configDigest: b.config.digest });
    expect(await obtain(":docker.io/library/a:1")).toMatchObject({ configDigest: a.config.digest });
    expect(await obtain(":@1")).toMatchObject({ configDigest: b.config.digest });
    await expect(obtain("")).rejects.toMatchObject({
      code: "AMBIGUOUS_NAME",
      message: expect.stringContaining("docker.io/library/a:1, docker.io/library/b:2"),
      hint: expect.stringContaining(":@0"),
    });
    await expect(obtain(":c")).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
    await expect(obtain(":@2")).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
    await expect(images.obtain(`oci-archive:${archive}`, { pull: "missing" })).rejects.toMatchObject({
      code: "ARCHIVE_INVALID",
      hint: expect.stringContaining("docker-archive:"),
    });
  });

  it("is read again each time, and outlived by its copy", async () => {
    await using directory = await TemporaryDirectory.make();
    const archive = directory.join("archive.tar");
    const [first, second] = [
      makeImage({ layers: [plainLayer(layerTar)] }),
      makeImage({ layers: [plainLayer(bigTar)] }),
    ];
    const images = new Images({ root: directory.join("store"), env: process.env });
    const obtain = () => images.obtain(`docker-archive:${archive}`, { pull: "missing" });
    await writeFile(archive, tarOf(dockerArchive(first)));
    const before = await obtain();
    expect(await obtain()).toEqual(before);
    await writeFile(archive, tarOf(dockerArchive(second)));
    expect((await obtain()).configDigest).toBe(second.config.digest);
    await rm(archive);
    expect((await obtain()).configDigest).toBe(second.config.digest);
    await expect(images.obtain(`docker-archive:${archive}x`, { pull: "missing" })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  });
});
