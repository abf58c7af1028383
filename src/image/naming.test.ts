import { describe, expect, it } from "vitest";
import {
  makeImage,
  makeIndex,
  removeAll,
  TemporaryDirectory,
  type TestImage,
  writeLayout,
} from "./image.test-helper.ts";
import { Images } from "./images.ts";
import { serveImage, TestServer } from "./registry.test-helper.ts";

function imagesIn(directory: TemporaryDirectory): Images {
  return new Images({ root: directory.join("store"), env: {} });
}

/** Brings an image in under the name of a layout. */
async function bring(directory: TemporaryDirectory, name: string, image: TestImage): Promise<string> {
  const layout = directory.join(name);
  await writeLayout(layout, [{ image, tag: "x" }]);
  await imagesIn(directory).obtain(`oci:${layout}:x`, { pull: "always" });
  return `oci:${layout}:x`;
}

async function names(images: Images): Promise<unknown> {
  return (await images.list()).map(({ name, formerName }) => name ?? `formerly ${formerName}`);
}

describe("tag", () => {
  it("gives a further name, however often, to what any of an image's names stands for", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const image = makeImage();
    const source = await bring(directory, "a", image);
    const { digest } = image.manifest;
    for (const [from, to] of [
      [source, "a"],
      ["a", "a:2"],
      ["a", "a:2"],
      [digest, "registry.example:5000/b:1"],
      [digest.slice(7, 15), "c"],
      [image.config.digest, "d"],
      [`a@${digest}`, "e"],
    ] as const) {
      await images.tag(from, to);
      expect((await images.find(to))?.manifestDigest).toBe(digest);
    }
    expect(await names(images)).toEqual([
      source,
      "docker.io/library/a:latest",
      "docker.io/library/a:2",
      "registry.example:5000/b:1",
      "docker.io/library/c:latest",
      "docker.io/library/d:latest",
      "docker.io/library/e:latest",
    ]);
  });

  it("takes the name from another image, which is nameless if it was its last, until it is named again", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const [one, two] = [makeImage(), makeImage()];
    const [first, second] = [await bring(directory, "one", one), await bring(directory, "two", two)];
    await images.tag(first, "a");
    await images.tag(second, "a");
    expect((await images.find("a"))?.manifestDigest).toBe(two.manifest.digest);
    expect(await names(images)).toEqual([first, second, "docker.io/library/a:latest"]);
    await images.tag(first, "b");
    await images.forget({ digests: new Set(), loses: ({ reference }) => reference === first });
    await images.tag("a", "b");
    expect(await names(images)).toContain("formerly docker.io/library/b:latest");
    await images.tag(one.manifest.digest, "c");
    expect(await names(images)).toEqual([
      second,
      "docker.io/library/a:latest",
      "docker.io/library/b:latest",
      "docker.io/library/c:latest",
    ]);
  });

  it("names all platforms that are here", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const platforms = ["amd64", "arm64"].map((architecture) => ({
      image: makeImage({ architecture }),
      platform: { os: "linux", architecture },
    }));
    const index = makeIndex(platforms.map(({ image, platform }) => ({ manifest: image.manifest, platform })));
    const blobs = platforms.flatMap(({ image }) => [image.manifest, image.config, ...image.layers]);
    await using server = await TestServer.start(serveImage({ root: index, blobs }));
    for (const platform of ["linux/amd64", "linux/arm64"]) {
      await images.obtain(`${server.host}/a:1`, { pull: "missing", platform });
    }
    await images.tag(`${server.host}/a:1`, "b");
    for (const { image, platform } of platforms) {
      const found = await images.find("b", { platform: `linux/${platform.architecture}` });
      expect(found?.manifestDigest).toBe(image.manifest.digest);
    }
  });

  it.each([
    ["gone", "b", "IMAGE_NOT_FOUND"],
    ["Not A Name", "b", "INVALID_REFERENCE"],
    ["a", "Not A Name", "INVALID_REFERENCE"],
    ["a", `b@sha256:${"0".repeat(64)}`, "INVALID_ARGUMENT"],
    ["a", "oci:/srv/layout", "INVALID_ARGUMENT"],
    ["a", "docker:b", "INVALID_ARGUMENT"],
    ["a", "0".repeat(64), "INVALID_REFERENCE"],
  ])("of %s as %s is refused", async (source, target, code) => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    await images.tag(await bring(directory, "a", makeImage()), "a");
    await expect(images.tag(source, target)).rejects.toMatchObject({ code });
  });
});

describe("an image by its digest", () => {
  it("is handed out without asking anyone, or not at all", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const image = makeImage();
    await bring(directory, "a", image);
    const { digest } = image.manifest;
    for (const reference of [
      digest,
      digest.slice(7),
      digest.slice(0, 20),
      digest.slice(7, 19),
      image.config.digest,
    ]) {
      for (const pull of ["missing", "never"] as const) {
        expect((await images.obtain(reference, { pull })).manifestDigest).toBe(digest);
      }
    }
    const other = `sha256:${"0".repeat(64)}`;
    await expect(images.obtain(other, { pull: "missing" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
    await expect(images.obtain("00000000", { pull: "never" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
  });

  it("is the one pinned by NAME@DIGEST, by the digest of its index too, also when the name is another's now", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const [old, newer] = [makeImage(), makeImage()];
    const [oldIndex, newIndex] = [old, newer].map(({ manifest }) => makeIndex([{ manifest }]));
    if (oldIndex === undefined || newIndex === undefined) throw new Error("two");
    let root = oldIndex;
    const blobs = [old, newer].flatMap(({ manifest, config, layers }) => [manifest, config, ...layers]);
    await using server = await TestServer.start((request, response) =>
      serveImage({ root, blobs })(request, response),
    );
    const name = `${server.host}/a:1`;
    await images.obtain(name, { pull: "always" });
    root = newIndex;
    expect((await images.obtain(name, { pull: "always" })).manifestDigest).toBe(newer.manifest.digest);
    const requests = server.requests.length;
    for (const digest of [old.manifest.digest, oldIndex.digest]) {
      const found = await images.obtain(`${server.host}/a@${digest}`, { pull: "missing" });
      expect(found.manifestDigest).toBe(old.manifest.digest);
    }
    expect(server.requests).toHaveLength(requests);
    // Its name is its digest now.
    expect((await images.find(old.manifest.digest))?.reference).toBe(old.manifest.digest);
    await removeAll(images, old.manifest.digest);
    expect(await names(images)).toEqual([name]);
  });
});
