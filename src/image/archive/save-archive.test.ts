import { rm, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import { type TarEntry, TarReader } from "../../tar/reader.ts";
import {
  collect,
  gzipLayer,
  hasTool,
  makeImage,
  noise,
  plainLayer,
  TemporaryDirectory,
  type TestImage,
  tar,
  writeLayout,
} from "../image.test-helper.ts";
import { Images } from "../images.ts";
import { sha256 } from "../store/content-store.ts";

const shared = plainLayer(tar([{ name: "shared", content: noise(50_000, "shared") }]));
const own = gzipLayer(tar([{ name: "own", content: noise(10_000, "own") }]));
const hasSkopeo = await hasTool("skopeo");

/** A store that has these images under the names `a`, `b`… */
async function storeWith(directory: TemporaryDirectory, list: readonly TestImage[]): Promise<Images> {
  const images = new Images({ root: directory.join("store"), env: process.env });
  for (const [index, image] of list.entries()) {
    const layout = directory.join(`layout${index}`);
    await writeLayout(layout, [{ image }]);
    await images.obtain(`oci:${layout}`, { pull: "missing" });
    await images.tag(`oci:${layout}`, String.fromCharCode(97 + index));
  }
  return images;
}

function read(archive: Buffer): { names: string[]; documents: Map<string, unknown> } {
  const names: string[] = [];
  const documents = new Map<string, unknown>();
  let parts: Buffer[] = [];
  let current: TarEntry | undefined;
  const reader = new TarReader("the archive", {
    entry(entry) {
      names.push(entry.path);
      current = entry;
      parts = [];
      return entry.path.endsWith(".json") || entry.path === "oci-layout";
    },
    data: (bytes) => parts.push(Buffer.from(bytes)),
    end: () => documents.set(current?.path ?? "", JSON.parse(Buffer.concat(parts).toString())),
  });
  reader.push(archive);
  reader.finish();
  return { names, documents };
}

describe("saveArchive", () => {
  it("writes what images share once, and the same bytes each time", async () => {
    await using directory = await TemporaryDirectory.make();
    const [a, b] = [makeImage({ layers: [shared] }), makeImage({ layers: [shared, own, shared] })];
    const images = await storeWith(directory, [a, b]);
    const archive = await collect(images.save(["a", "b", "a"], { format: "docker-archive" }));
    expect(archive.equals(await collect(images.save(["a", "b"], { format: "docker-archive" })))).toBe(true);
    const { names, documents } = read(archive);
    const blobs = [a, b].flatMap((image) => [image.manifest, image.config, ...image.layers]);
    const members = [...new Set(blobs.map(({ digest }) => `blobs/sha256/${digest.slice(7)}`))].sort();
    expect(names).toEqual([
      "blobs/",
      "blobs/sha256/",
      ...members,
      "index.json",
      "manifest.json",
      "oci-layout",
    ]);
    expect(documents.get("manifest.json")).toMatchObject([
      { Config: `blobs/sha256/${a.config.digest.slice(7)}`, RepoTags: ["docker.io/library/a:latest"] },
      {
        RepoTags: ["docker.io/library/b:latest"],
        Layers: b.layers.map(({ digest }) => `blobs/sha256/${digest.slice(7)}`),
      },
    ]);
    expect(documents.get("index.json")).toMatchObject({
      manifests: [
        {
          digest: a.manifest.digest,
          size: a.manifest.size,
          annotations: {
            "io.containerd.image.name": "docker.io/library/a:latest",
            "org.opencontainers.image.ref.name": "latest",
          },
        },
        { digest: b.manifest.digest },
      ],
    });
    const oci = read(await collect(images.save(["b"], { format: "oci-archive" })));
    expect(oci.names).not.toContain("manifest.json");
    expect(oci.documents.get("index.json")).toMatchObject({
      manifests: [{ annotations: { "org.opencontainers.image.ref.name": "docker.io/library/b:latest" } }],
    });
  });

  it("gives no name to an image that is asked for by its digest, or has none that others know", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [own] });
    const images = await storeWith(directory, [image]);
    for (const reference of [
      image.manifest.digest,
      image.manifest.digest.slice(7, 20),
      `oci:${directory.join("layout0")}`,
    ]) {
      const { documents } = read(await collect(images.save([reference], { format: "docker-archive" })));
      expect(documents.get("manifest.json")).toMatchObject([{ RepoTags: null }]);
      expect(JSON.stringify(documents.get("index.json"))).not.toContain("annotations");
    }
  });

  it.skipIf(!hasSkopeo)("shows an image of Docker's media types in OCI's (needs skopeo)", async () => {
    await using directory = await TemporaryDirectory.make();
    const mediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    const image = makeImage({ docker: true, layers: [{ ...own, mediaType }] });
    const images = await storeWith(directory, [image]);
    for (const format of ["docker-archive", "oci-archive"] as const) {
      const file = directory.join(`${format}.tar`);
      await writeFile(file, images.save(["a"], { format }));
      const copied = directory.join(`${format}-copy`);
      await runProgram("skopeo", [
        "--insecure-policy",
        "copy",
        "-q",
        `${format}:${file}:docker.io/library/a:latest`,
        `oci:${copied}:a`,
      ]);
      const other = new Images({ root: directory.join(`${format}-store`), env: process.env });
      const found = await other.obtain(`oci:${copied}:a`, { pull: "missing" });
      // Copying from Docker's form, skopeo writes a configuration of its own.
      if (format === "oci-archive") expect(found.configDigest).toBe(image.config.digest);
      expect(found.layers.map(({ diffId }) => diffId)).toEqual([sha256(own.tar)]);
      const [loaded] = await other.load({ file });
      expect(loaded?.image.layers.map(({ digest }) => digest)).toEqual(
        image.layers.map(({ digest }) => digest),
      );
    }
  });

  it("says what is not here, and what has gone from the store", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [own] });
    const images = await storeWith(directory, [image]);
    await expect(collect(images.save(["a", "c"], { format: "docker-archive" }))).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
    await rm(directory.join("store/blobs/sha256", image.layers[0]?.digest.slice(7) ?? ""));
    await expect(collect(images.save(["a"], { format: "docker-archive" }))).rejects.toMatchObject({
      code: "LAYER_INVALID",
      message: expect.stringContaining(image.layers[0]?.digest ?? "?"),
    });
  });
});
