import { appendFile, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import {
  collect,
  gzipLayer,
  hasTool,
  hostArchitecture,
  json,
  makeImage,
  noise,
  TemporaryDirectory,
  tar,
  writeLayout,
} from "../image.test-helper.ts";
import { Images } from "../images.ts";

const hasTools = (await hasTool("skopeo")) && (await hasTool("umoci"));
const archive = tar([{ name: "a", content: noise(100_000, "a") }]);

function imagesIn(directory: TemporaryDirectory): Images {
  return new Images({ root: directory.join("store"), env: {} });
}

describe("oci:DIR[:TAG]", () => {
  it("copies the only image, whose directory may then go away", async () => {
    await using directory = await TemporaryDirectory.make();
    const image = makeImage({ layers: [gzipLayer(archive)] });
    const layout = directory.join("layout");
    await writeLayout(layout, [{ image, tag: "v1" }]);
    const images = imagesIn(directory);
    const local = await images.obtain(`oci:${layout}`, { pull: "missing" });
    expect(local).toMatchObject({ reference: `oci:${layout}`, manifestDigest: image.manifest.digest });
    await rm(layout, { recursive: true });
    expect(await images.obtain(`oci:${layout}`, { pull: "missing" })).toEqual(local);
    for (const layer of local.layers)
      expect((await collect(images.openLayer(layer))).equals(archive)).toBe(true);
    await expect(images.obtain(`oci:${layout}x`, { pull: "missing" })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  });

  it("notices that the layout has changed, and is the same by any path", async () => {
    await using directory = await TemporaryDirectory.make();
    const [first, second] = [makeImage(), makeImage()];
    const layout = directory.join("layout");
    const images = imagesIn(directory);
    await writeLayout(layout, [{ image: first, tag: "v1" }]);
    expect((await images.obtain(`oci:${layout}:v1`, { pull: "missing" })).manifestDigest).toBe(
      first.manifest.digest,
    );
    await writeLayout(layout, [{ image: second, tag: "v1" }]);
    const local = await images.obtain(`oci:${directory.path}/./layout:v1`, { pull: "never" });
    expect(local.manifestDigest).toBe(second.manifest.digest);
    // As in Docker, the one that had the name stays until it is pruned.
    expect((await images.list()).map(({ name }) => name)).toEqual([undefined, local.reference]);
  });

  it("chooses by tag, and lists the tags when it cannot", async () => {
    await using directory = await TemporaryDirectory.make();
    const [a, b] = [makeImage(), makeImage()];
    const layout = directory.join("layout");
    await writeLayout(layout, [
      { image: a, tag: "a" },
      { image: b, tag: "b" },
    ]);
    const images = imagesIn(directory);
    expect((await images.obtain(`oci:${layout}:b`, { pull: "missing" })).manifestDigest).toBe(
      b.manifest.digest,
    );
    await expect(images.obtain(`oci:${layout}`, { pull: "missing" })).rejects.toMatchObject({
      code: "AMBIGUOUS_NAME",
      message: expect.stringContaining('its tags are "a", "b"'),
      hint: `name one: oci:${layout}:TAG`,
    });
    await expect(images.obtain(`oci:${layout}:c`, { pull: "missing" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
      message: expect.stringContaining('no image tagged "c"; its tags are "a", "b"'),
    });
  });

  it("chooses by platform where one tag has several", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    const [own, other] = [makeImage(), makeImage({ architecture: "s390x" })];
    await writeLayout(layout, [
      { image: other, tag: "x", platform: { os: "linux", architecture: "s390x" } },
      { image: own, tag: "x", platform: { os: "linux", architecture: hostArchitecture() } },
    ]);
    const local = await imagesIn(directory).obtain(`oci:${layout}:x`, { pull: "missing" });
    expect(local.manifestDigest).toBe(own.manifest.digest);
  });

  it.skipIf(!hasTools)("takes what skopeo and umoci made (needs skopeo, umoci)", async () => {
    await using directory = await TemporaryDirectory.make();
    const made = directory.join("umoci");
    await writeFile(directory.join("layer.tar"), archive);
    await runProgram("umoci", ["init", "--layout", made]);
    await runProgram("umoci", ["new", "--image", `${made}:v1`]);
    await runProgram("umoci", ["raw", "add-layer", "--image", `${made}:v1`, directory.join("layer.tar")]);
    await runProgram("umoci", ["config", "--image", `${made}:v1`, "--config.cmd=/a", "--config.user=5:6"]);
    const copied = directory.join("skopeo");
    await runProgram("skopeo", ["--insecure-policy", "copy", `oci:${made}:v1`, `oci:${copied}:other`]);
    const images = imagesIn(directory);
    for (const reference of [`oci:${made}:v1`, `oci:${copied}`]) {
      const local = await images.obtain(reference, { pull: "missing" });
      expect(local.config).toMatchObject({ cmd: ["/a"], user: "5:6" });
      for (const layer of local.layers)
        expect((await collect(images.openLayer(layer))).equals(archive)).toBe(true);
    }
  });

  it.skipIf(!hasTools)("finds what skopeo put into the store itself (needs skopeo)", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    await writeLayout(layout, [{ image: makeImage({ layers: [gzipLayer(archive)] }), tag: "v1" }]);
    const images = imagesIn(directory);
    await images.obtain(`oci:${layout}`, { pull: "missing" });
    const target = `oci:${directory.join("store")}:docker.io/library/mine:1`;
    await runProgram("skopeo", ["--insecure-policy", "copy", `oci:${layout}:v1`, target]);
    const local = await images.obtain("mine:1", { pull: "never" });
    expect(local.reference).toBe("docker.io/library/mine:1");
    expect(await images.list()).toHaveLength(2);
    expect(await images.collectGarbage({ timeoutMs: 1000 })).toMatchObject({ blobs: 0 });
  });

  it.each<[string, (layout: string, blob: string) => Promise<unknown>, string]>([
    ["a layer that is cut", (_layout, blob) => truncate(blob, 100), "DIGEST_MISMATCH"],
    ["a layer that is longer", (_layout, blob) => appendFile(blob, "x"), "DIGEST_MISMATCH"],
    [
      "a layer of other bytes",
      async (_layout, blob) => writeFile(blob, noise((await readFile(blob)).length, "other")),
      "DIGEST_MISMATCH",
    ],
    ["a layer that is not there", (_layout, blob) => rm(blob), "FILE_NOT_FOUND"],
    [
      "a FIFO for a layer",
      async (_l, blob) => rm(blob).then(() => runProgram("mkfifo", [blob])),
      "LAYER_INVALID",
    ],
    ["a directory for a layer", async (_l, blob) => rm(blob).then(() => mkdir(blob)), "LAYER_INVALID"],
    [
      "a link to something else for a layer",
      async (_l, blob) => rm(blob).then(() => symlink("/etc/passwd", blob)),
      "DIGEST_MISMATCH",
    ],
    ["no index", (layout) => rename(`${layout}/index.json`, `${layout}/x`), "FILE_NOT_FOUND"],
    ["an index that is none", (layout) => writeFile(`${layout}/index.json`, "[]"), "MANIFEST_INVALID"],
    [
      "a huge index",
      (layout) => writeFile(`${layout}/index.json`, Buffer.alloc(5_000_000)),
      "MANIFEST_INVALID",
    ],
    [
      "an empty index",
      (layout) => writeFile(`${layout}/index.json`, json({ schemaVersion: 2, manifests: [] })),
      "IMAGE_NOT_FOUND",
    ],
  ])("refuses %s", async (_name, spoil, code) => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    const image = makeImage({ layers: [gzipLayer(archive)] });
    await writeLayout(layout, [{ image, tag: "v1" }]);
    await spoil(layout, `${layout}/blobs/sha256/${image.layers[0]?.digest.slice("sha256:".length)}`);
    const images = imagesIn(directory);
    await expect(images.obtain(`oci:${layout}:v1`, { pull: "missing" })).rejects.toMatchObject({ code });
    expect(await images.list()).toEqual([]);
  });
});
