import { readdir, readFile, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FirectlError } from "../../core/errors.ts";
import { damage, documentChanges, mutate, mutations } from "../../core/mutations.test-helper.ts";
import { propertyRuns } from "../../core/property-runs.test-helper.ts";
import { file, symlink, tarOf } from "../../tar/tar-builder.test-helper.ts";
import {
  type Blob,
  chunksOf,
  collect,
  descriptor,
  gzipLayer,
  json,
  makeImage,
  noise,
  plainLayer,
  TemporaryDirectory,
  tar,
} from "../image.test-helper.ts";
import { Images } from "../images.ts";
import { sha256 } from "../store/content-store.ts";

const [first, second] = [
  tar([{ name: "a", content: noise(3_000, "a") }]),
  tar([{ name: "b", content: noise(2_000, "b") }]),
];
const image = makeImage({ layers: [plainLayer(first), gzipLayer(second)] });
const hex = (blob: Blob): string => blob.digest.replace("sha256:", "");

const INDEX = {
  schemaVersion: 2,
  mediaType: "application/vnd.oci.image.index.v1+json",
  manifests: [
    {
      ...descriptor(image.manifest),
      annotations: { "io.containerd.image.name": "a.example/b:1", "org.opencontainers.image.ref.name": "1" },
    },
  ],
};
const SAVED = [
  { Config: hex(image.config), RepoTags: ["app:1"], Layers: ["one/layer.tar", "two/layer.tar"] },
];
const BLOBS = [image.manifest, image.config, ...image.layers].map((blob) =>
  file(`blobs/sha256/${hex(blob)}`, blob.bytes),
);
const oci = (index: unknown): Buffer => tarOf([...BLOBS, file("index.json", json(index))]);
const docker = (saved: unknown): Buffer =>
  tarOf([
    file(hex(image.config), image.config.bytes),
    file("one/layer.tar", first),
    file("two.tar", image.layers[1]?.bytes ?? ""),
    symlink("two/layer.tar", "../two.tar"),
    file("manifest.json", json(saved)),
  ]);

/** An archive is loaded whole or refused in words, and leaves nothing but verified blobs behind. */
async function tryToLoad(bytes: Buffer): Promise<void> {
  await using directory = await TemporaryDirectory.make();
  await writeFile(directory.join("archive.tar"), bytes);
  const ways = [{ file: directory.join("archive.tar") }, { chunks: chunksOf(bytes, 1_000), label: "stream" }];
  for (const [index, input] of ways.entries()) {
    const images = new Images({ root: directory.join(`store${index}`), env: process.env });
    try {
      for (const { image: loaded } of await images.load(input)) {
        for (const layer of loaded.layers)
          expect([first, second]).toContainEqual(await collect(images.openLayer(layer)));
      }
    } catch (error) {
      if (!(error instanceof FirectlError)) throw error;
    }
    const blobs = directory.join(`store${index}/blobs/sha256`);
    for (const name of await readdir(blobs)) {
      expect(sha256(await readFile(`${blobs}/${name}`))).toBe(`sha256:${name}`);
    }
    const temporary = await readdir(directory.join(`store${index}/ingest`));
    expect(temporary.filter((name) => !name.endsWith(".partial"))).toEqual([]);
  }
  expect(await readdir(directory.path)).toHaveLength(3);
}

describe("damaged archives", () => {
  const RUNS = propertyRuns(25);

  it("the undamaged ones load", async () => {
    for (const bytes of [oci(INDEX), docker(SAVED)]) {
      await using directory = await TemporaryDirectory.make();
      const images = new Images({ root: directory.join("store"), env: process.env });
      const [loaded] = await images.load({ chunks: chunksOf(bytes, 1_000), label: "stream" });
      expect(loaded?.image.layers.map(({ diffId }) => diffId)).toEqual([sha256(first), sha256(second)]);
    }
  });

  it("of OCI, with bytes changed", async () => {
    const whole = oci(INDEX);
    await fc.assert(
      fc.asyncProperty(mutations, (changes) => tryToLoad(mutate(whole, changes))),
      RUNS,
    );
  }, 600_000);

  it("of Docker, with bytes changed", async () => {
    const whole = docker(SAVED);
    await fc.assert(
      fc.asyncProperty(mutations, (changes) => tryToLoad(mutate(whole, changes))),
      RUNS,
    );
  }, 600_000);

  it("of OCI, with another index", async () => {
    await fc.assert(
      fc.asyncProperty(documentChanges, (changes) => tryToLoad(oci(damage(INDEX, changes)))),
      RUNS,
    );
  }, 600_000);

  it("of Docker, with another list", async () => {
    await fc.assert(
      fc.asyncProperty(documentChanges, (changes) => tryToLoad(docker(damage(SAVED, changes)))),
      RUNS,
    );
  }, 600_000);
});
