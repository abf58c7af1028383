import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import {
  collect,
  gzipLayer,
  hasTool,
  makeImage,
  makeIndex,
  noise,
  TemporaryDirectory,
  type TestImage,
  tar,
  writeLayout,
} from "../image.test-helper.ts";
import { Images } from "../images.ts";
import { serveImage, TestServer } from "../registry.test-helper.ts";

const [hasSkopeo, hasUmoci] = await Promise.all(["skopeo", "umoci"].map(hasTool));

/** A layer of Docker's media type; skopeo and umoci unpack it, so it must be a tar that GNU tar reads. */
function dockerImage(content: string): TestImage {
  const layer = gzipLayer(tar([{ name: "hello", content: Buffer.from(content) }]));
  return makeImage({
    docker: true,
    layers: [{ ...layer, mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip" }],
  });
}

function served(image: TestImage): Parameters<typeof serveImage>[0] {
  return { root: image.manifest, blobs: [image.config, ...image.layers] };
}

function imagesIn(directory: TemporaryDirectory): Images {
  return new Images({ root: directory.join("store"), env: {} });
}

/** What `umoci unpack` makes of the store's image: the contents of its file. */
async function unpacked(directory: TemporaryDirectory, name: string): Promise<string> {
  const bundle = directory.join(`bundle ${Math.random()}`);
  const rootless = process.getuid?.() === 0 ? [] : ["--rootless"];
  await runProgram("umoci", ["unpack", ...rootless, "--image", `${directory.join("store")}:${name}`, bundle]);
  return readFile(`${bundle}/rootfs/hello`, "utf8");
}

async function skopeoDigest(directory: TemporaryDirectory, name: string): Promise<string> {
  const shown = await runProgram("skopeo", ["inspect", `oci:${directory.join("store")}:${name}`]);
  return JSON.parse(shown).Digest;
}

describe.skipIf(!hasSkopeo || !hasUmoci)("the store (needs skopeo and umoci)", () => {
  it.each([
    [
      "OCI's",
      makeImage({ layers: [gzipLayer(tar([{ name: "hello", content: Buffer.from("oci") }]))] }),
      "oci",
    ],
    ["Docker's", dockerImage("docker"), "docker"],
  ])("is read by both, with an image in %s media types", async (_what, image, content) => {
    await using directory = await TemporaryDirectory.make();
    await using server = await TestServer.start(serveImage(served(image)));
    const name = `${server.host}/team/app:1.2`;
    const images = imagesIn(directory);
    const local = await images.obtain(name, { pull: "missing" });
    expect(local.manifestDigest).toBe(image.manifest.digest);
    expect(await unpacked(directory, name)).toBe(content);
    const digest = await skopeoDigest(directory, name);
    if (image.manifest.mediaType.includes("oci")) expect(digest).toBe(image.manifest.digest);
    await runProgram("skopeo", [
      "copy",
      "-q",
      `oci:${directory.join("store")}:${name}`,
      `oci:${directory.join("copy")}:x`,
    ]);
    // The form for other tools is kept and collected with the image.
    await images.collectGarbage({ timeoutMs: 1000 });
    expect(await skopeoDigest(directory, name)).toBe(digest);
    await images.tag(name, "other:2");
    expect(await unpacked(directory, "docker.io/library/other:2")).toBe(content);
    await images.tag(name, "odd__name");
    expect(await unpacked(directory, local.manifestDigest)).toBe(content);
  });

  it("gives out the platform that came last", async () => {
    await using directory = await TemporaryDirectory.make();
    const [amd, arm] = ["amd64", "arm64"].map((architecture) => makeImage({ architecture }));
    if (amd === undefined || arm === undefined) throw new Error("two");
    const index = makeIndex([
      { manifest: amd.manifest, platform: { os: "linux", architecture: "amd64" } },
      { manifest: arm.manifest, platform: { os: "linux", architecture: "arm64" } },
    ]);
    const blobs = [amd, arm].flatMap(({ manifest, config, layers }) => [manifest, config, ...layers]);
    await using server = await TestServer.start(serveImage({ root: index, blobs }));
    const images = imagesIn(directory);
    const name = `${server.host}/two:1`;
    for (const [platform, image] of [
      ["linux/amd64", amd],
      ["linux/arm64", arm],
    ] as const) {
      await images.obtain(name, { pull: "missing", platform });
      const raw = await runProgram("skopeo", ["inspect", "--raw", `oci:${directory.join("store")}:${name}`]);
      expect(JSON.parse(raw).config.digest).toBe(image.config.digest);
    }
    expect((await images.select(name)).items).toHaveLength(2);
    expect((await images.select(index.digest)).items).toHaveLength(2);
  });

  it("shows and hands out what skopeo has put there, an index too", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    const image = makeImage();
    const theirs = makeImage();
    await writeLayout(layout, [{ image, tag: "ours" }]);
    const images = imagesIn(directory);
    await images.obtain(`oci:${layout}:ours`, { pull: "missing" });
    await images.tag(`oci:${layout}:ours`, "app:1");

    await writeLayout(directory.join("theirs"), [{ image: theirs, tag: "x" }]);
    const copy = (name: string) =>
      runProgram("skopeo", [
        "copy",
        "-q",
        `oci:${directory.join("theirs")}:x`,
        `oci:${directory.join("store")}:${name}`,
      ]);
    await copy("busybox:1");
    const local = await images.obtain("busybox:1", { pull: "never" });
    expect(local.manifestDigest).toBe(theirs.manifest.digest);
    for (const layer of local.layers)
      expect((await collect(images.openLayer(layer))).length).toBeGreaterThan(0);

    // A name of ours that goes to theirs.
    await copy("docker.io/library/app:1");
    expect((await images.find("app:1"))?.manifestDigest).toBe(theirs.manifest.digest);
    expect((await images.list()).map(({ name }) => name)).toContain("docker.io/library/busybox:1");
    // Nothing of either is garbage.
    await images.collectGarbage({ timeoutMs: 1000 });
    expect(await skopeoDigest(directory, "busybox:1")).toBe(theirs.manifest.digest);
    expect(await images.find(`oci:${layout}:ours`)).toBeDefined();

    // And back, by us: then it is ours again, once.
    await images.tag(image.manifest.digest, "app:1");
    expect(await skopeoDigest(directory, "docker.io/library/app:1")).toBe(image.manifest.digest);
    expect((await images.select("app:1")).items).toHaveLength(1);
  });

  it("shows the images of an index that another tool has put there", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const [amd, arm] = ["amd64", "arm64"].map((architecture) => makeImage({ architecture }));
    if (amd === undefined || arm === undefined) throw new Error("two");
    const index = makeIndex([{ manifest: amd.manifest }, { manifest: arm.manifest }]);
    const blobs = [amd, arm].flatMap(({ manifest, config, layers }) => [manifest, config, ...layers]);
    await using server = await TestServer.start(serveImage({ root: index, blobs }));
    await images.alone(1000, async () => {});
    await runProgram("skopeo", [
      "copy",
      "-q",
      "--all",
      "--src-tls-verify=false",
      `docker://${server.host}/two:1`,
      `oci:${directory.join("store")}:two:1`,
    ]);
    expect((await images.obtain("two:1", { pull: "never", platform: "linux/arm64" })).manifestDigest).toBe(
      arm.manifest.digest,
    );
    const { items } = await images.select("two:1");
    expect(items.map(({ image }) => image.manifestDigest).sort()).toEqual(
      [amd.manifest.digest, arm.manifest.digest].sort(),
    );
    await images.collectGarbage({ timeoutMs: 1000 });
    expect(await images.find("two:1", { platform: "linux/amd64" })).toBeDefined();
    await images.forget({ digests: new Set(items.map(({ entry }) => entry.digest)) });
    expect(await images.list()).toEqual([]);
  });

  it("stays readable while images come and go", async () => {
    await using directory = await TemporaryDirectory.make();
    const layout = directory.join("layout");
    const images = imagesIn(directory);
    const make = (seed: string): TestImage =>
      makeImage({ layers: [gzipLayer(tar([{ name: "hello", content: noise(100_000, seed) }]))] });
    const steady = make("steady");
    await writeLayout(layout, [{ image: steady, tag: "steady" }]);
    await images.obtain(`oci:${layout}:steady`, { pull: "missing" });
    await images.tag(`oci:${layout}:steady`, "steady");
    let isDone = false;
    const changing = (async () => {
      for (let count = 0; count < 25; count++) {
        const other = directory.join(`layout ${count}`);
        await writeLayout(other, [{ image: make(`${count}`), tag: "x" }]);
        const { manifestDigest } = await images.obtain(`oci:${other}:x`, { pull: "always" });
        await images.tag(manifestDigest, "moving:1");
        if (count % 3 === 0) {
          await images.forget({ digests: new Set([manifestDigest]) });
          await images.collectGarbage({ timeoutMs: 1000 });
        }
      }
      isDone = true;
    })();
    let reads = 0;
    for (; !isDone; reads++) {
      expect(await skopeoDigest(directory, "docker.io/library/steady:latest")).toBe(steady.manifest.digest);
    }
    await changing;
    expect(reads).toBeGreaterThan(0);
    expect(
      Buffer.from(await unpacked(directory, "docker.io/library/steady:latest"), "utf8").length,
    ).toBeGreaterThan(0);
  });
});
