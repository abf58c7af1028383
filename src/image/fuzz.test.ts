import { open, writeFile } from "node:fs/promises";
import { deflateSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import {
  type DocumentChange,
  damage,
  documentChanges,
  type Mutation,
  mutate,
  mutations,
} from "../core/mutations.test-helper.ts";
import { propertyRuns } from "../core/property-runs.test-helper.ts";
import { runProgram } from "../host/process.ts";
import { imagesIn } from "./archive/images-in.ts";
import { indexArchive } from "./archive/seekable.ts";
import { decompress } from "./decompress.ts";
import { chunksOf, hasTool, json, makeImage, noise, TemporaryDirectory, tar } from "./image.test-helper.ts";
import { parseImageConfig, parseManifest } from "./manifest.ts";
import { type Compression, OCI_INDEX, OCI_MANIFEST } from "./media-types.ts";
import { parseImageLocation, parseReference } from "./reference.ts";
import { parseLayoutIndex } from "./sources/layout-index.ts";
import { sha256 } from "./store/content-store.ts";

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const LAYER = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: DIGEST, size: 100 };
const MANIFEST = {
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: DIGEST, size: 200 },
  layers: [LAYER, { ...LAYER, urls: ["https://example.com/x"] }],
  annotations: { "org.opencontainers.image.ref.name": "latest" },
};
const INDEX = {
  schemaVersion: 2,
  mediaType: OCI_INDEX,
  manifests: [
    {
      mediaType: OCI_MANIFEST,
      digest: DIGEST,
      size: 3,
      platform: { os: "linux", architecture: "arm", variant: "v7" },
    },
    { mediaType: OCI_MANIFEST, digest: DIGEST, size: 3, annotations: { "vnd.docker.reference.type": "x" } },
  ],
};
const CONFIG = {
  architecture: "amd64",
  os: "linux",
  created: "2024-01-01T00:00:00Z",
  config: {
    Env: ["PATH=/bin"],
    Cmd: ["/bin/sh"],
    Entrypoint: null,
    User: "1:2",
    WorkingDir: "/",
    Labels: { a: "b" },
    ExposedPorts: { "80/tcp": {} },
    StopSignal: "SIGTERM",
    Healthcheck: { Test: ["CMD", "true"], Interval: 1 },
  },
  rootfs: { type: "layers", diff_ids: [DIGEST, DIGEST] },
  history: [{ created: "2024-01-01T00:00:00Z", created_by: "x", empty_layer: true }],
};

/** Whatever `act` throws is a failure that a user can be told of. */
function refusesOrReads(act: () => unknown): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof FirectlError)) throw error;
    expect(error.message.length).toBeLessThan(2000);
  }
}

describe("damaged documents are read or refused, and nothing else:", () => {
  const what = "the manifest of x";
  test.for([
    ["a manifest", MANIFEST, (bytes: Buffer) => parseManifest(bytes, { what })],
    [
      "a manifest that was announced",
      MANIFEST,
      (bytes: Buffer) => parseManifest(bytes, { what, mediaType: OCI_MANIFEST }),
    ],
    ["an index", INDEX, (bytes: Buffer) => parseManifest(bytes, { what, mediaType: OCI_INDEX })],
    ["a layout's index", INDEX, (bytes: Buffer) => parseLayoutIndex(bytes, what)],
    ["a configuration", CONFIG, (bytes: Buffer) => parseImageConfig(bytes, { layerCount: 2, what })],
  ] as const)("%s", ([, document, parse]) => {
    parse(json(document));
    const inStructure = (changes: DocumentChange[]) =>
      refusesOrReads(() => parse(json(damage(document, changes))));
    fc.assert(fc.property(documentChanges, inStructure), propertyRuns(300));
    const inBytes = (changes: Mutation[]) => refusesOrReads(() => parse(mutate(json(document), changes)));
    fc.assert(fc.property(mutations, inBytes), propertyRuns(200));
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  test("references", () => {
    const piece = fc.constantFrom(
      ...[
        "docker",
        "oci",
        "rootfs",
        "docker-archive",
        "://",
        ":",
        "/",
        "@",
        "sha256:",
        "a",
        "A",
        "..",
        "-",
        "_",
        "é",
      ],
      ...["localhost", "5000", "latest", "library", " ", "\0", "[::1]", "x".repeat(300), DIGEST],
    );
    const text = fc.oneof(
      fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join("")),
      fc.string(),
    );
    const check = (each: string) => {
      refusesOrReads(() => parseReference(each));
      refusesOrReads(() => parseImageLocation(each));
    };
    fc.assert(fc.property(text, check), propertyRuns(1000));
  });
});

describe("damaged archives of images are read or refused, and nothing else:", () => {
  const layer = tar([{ name: "file", content: Buffer.from("x") }]);
  const config = json({ ...CONFIG, rootfs: { type: "layers", diff_ids: [sha256(layer)] } });
  const saved = [{ Config: "config.json", RepoTags: ["a/b:c"], Layers: ["layer/layer.tar"] }];
  const archiveOf = (manifest: Buffer) =>
    tar([
      { name: "manifest.json", content: manifest },
      { name: "config.json", content: config },
      { name: "layer/layer.tar", content: layer },
    ]);
  const image = makeImage();
  const layout = tar([
    { name: "oci-layout", content: json({ imageLayoutVersion: "1.0.0" }) },
    {
      name: "index.json",
      content: json({ schemaVersion: 2, manifests: [{ ...image.manifest, bytes: undefined }] }),
    },
    ...[image.manifest, image.config, ...image.layers].map(({ digest, bytes }) => ({
      name: `blobs/sha256/${digest.slice("sha256:".length)}`,
      content: Buffer.from(bytes),
    })),
  ]);

  async function listImages(directory: TemporaryDirectory, bytes: Buffer): Promise<number> {
    const file = `${directory.path}/archive.tar`;
    await writeFile(file, bytes);
    await using handle = await open(file, "r");
    const archive = await indexArchive(handle, { label: "x.tar", signal: undefined });
    return (await imagesIn(archive, { os: "linux", architecture: "amd64" })).length;
  }

  async function check(directory: TemporaryDirectory, bytes: Buffer): Promise<void> {
    try {
      await listImages(directory, bytes);
    } catch (error) {
      if (!(error instanceof FirectlError)) throw error;
    }
  }

  test("Docker's manifest.json", async () => {
    await using directory = await TemporaryDirectory.make();
    expect(await listImages(directory, archiveOf(json(saved)))).toBe(1);
    const run = (changes: DocumentChange[]) => check(directory, archiveOf(json(damage(saved, changes))));
    await fc.assert(fc.asyncProperty(documentChanges, run), propertyRuns(80));
  });

  test("the tar around them", async () => {
    await using directory = await TemporaryDirectory.make();
    expect(await listImages(directory, layout)).toBe(1);
    const run = async (isDocker: boolean, changes: Mutation[]) =>
      check(directory, mutate(isDocker ? archiveOf(json(saved)) : layout, changes));
    await fc.assert(fc.asyncProperty(fc.boolean(), mutations, run), propertyRuns(200));
  });
});

describe("damaged streams are unpacked in full or refused, and nothing else:", async () => {
  const hasZstd = await hasTool("zstd");
  const content = Buffer.concat([noise(3000, "a"), Buffer.alloc(40_000), Buffer.from("text ".repeat(400))]);

  async function check(bytes: Buffer, compression: Compression, chunk: number): Promise<void> {
    const enough = 2 ** 20;
    let received = 0;
    try {
      const options = { compression, what: "layer x", diffId: sha256(content) };
      for await (const piece of decompress({ chunks: () => chunksOf(bytes, chunk) }, options)) {
        received += piece.length;
        // A changed length may promise gigabytes; who reads layers stops at a limit too.
        if (received > enough) return;
      }
      expect(received).toBe(content.length);
    } catch (error) {
      const isOurs = error instanceof FirectlError && /^(LAYER_INVALID|DIGEST_MISMATCH)$/.test(error.code);
      if (!isOurs) throw error;
    }
  }

  const pieces = fc.constantFrom(1000, 7, 100_000);

  test("gzip, of several members too", async () => {
    const samples = [
      gzipSync(content, { level: 9 }),
      gzipSync(content, { level: 0 }),
      Buffer.concat([gzipSync(content.subarray(0, 5000)), gzipSync(content.subarray(5000))]),
      deflateSync(content),
    ];
    const run = (index: number, changes: Mutation[], chunk: number) =>
      check(mutate(samples[index] ?? Buffer.alloc(0), changes), "gzip", chunk);
    await fc.assert(fc.asyncProperty(fc.nat(3), mutations, pieces, run), propertyRuns(150));
  });

  test.skipIf(!hasZstd)("zstd (zstd)", async () => {
    await using directory = await TemporaryDirectory.make();
    const file = `${directory.path}/content`;
    await writeFile(file, content);
    const samples: Buffer[] = [];
    for (const level of ["-1", "-19", "--fast=5"]) {
      await runProgram("zstd", ["-qf", level, file, "-o", `${file}.zst`]);
      await using handle = await open(`${file}.zst`, "r");
      samples.push(await handle.readFile());
    }
    const run = (index: number, changes: Mutation[], chunk: number) =>
      check(mutate(samples[index] ?? Buffer.alloc(0), changes), "zstd", chunk);
    await fc.assert(fc.asyncProperty(fc.nat(2), mutations, pieces, run), propertyRuns(150));
  });
});
