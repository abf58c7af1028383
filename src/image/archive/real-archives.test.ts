import { chmod, copyFile, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import { collect, hasTool, noise, TemporaryDirectory, tar } from "../image.test-helper.ts";
import { Images, type LocalImage } from "../images.ts";

/** Archives as the tools themselves write them, all of the same image of two layers. */

const missing: string[] = [];
for (const tool of ["skopeo", "umoci", "podman", "docker"]) if (!(await hasTool(tool))) missing.push(tool);
const has = (tool: string): boolean => !missing.includes(tool);
const hasDocker =
  has("docker") &&
  (await runProgram("docker", ["version"]).then(
    () => true,
    () => false,
  ));

const layers = [
  tar([
    { name: "etc/", type: "5" },
    { name: "etc/first", content: noise(300_000, "one") },
  ]),
  tar([{ name: "etc/second", content: noise(2_000_000, "two") }]),
];

let made: TemporaryDirectory;
let layout: string;
beforeAll(async () => {
  made = await TemporaryDirectory.make();
  layout = made.join("layout");
  if (!has("umoci") || !has("skopeo")) return;
  await runProgram("umoci", ["init", "--layout", layout]);
  await runProgram("umoci", ["new", "--image", `${layout}:v1`]);
  for (const [index, layer] of layers.entries()) {
    await writeFile(made.join(`layer${index}.tar`), layer);
    await runProgram("umoci", [
      "raw",
      "add-layer",
      "--image",
      `${layout}:v1`,
      made.join(`layer${index}.tar`),
    ]);
  }
  await runProgram("umoci", [
    "config",
    "--image",
    `${layout}:v1`,
    "--config.cmd=/bin/true",
    "--config.user=5:6",
  ]);
});
afterAll(async () => {
  await made[Symbol.asyncDispose]();
});

const skopeo = (from: string, to: string): Promise<string> =>
  runProgram("skopeo", ["--insecure-policy", "copy", "--quiet", from, to]);

/** podman with a storage of its own, which needs no daemon and runs nothing. */
function podman(...args: string[]): Promise<string> {
  const storage = [
    "--root",
    made.join("podman"),
    "--runroot",
    made.join("podman-run"),
    "--storage-driver",
    "vfs",
  ];
  return runProgram("podman", [...storage, ...args]);
}

async function layersOf(images: Images, image: LocalImage): Promise<Buffer[]> {
  return Promise.all(image.layers.map((layer) => collect(images.openLayer(layer))));
}

async function expectTheImage(images: Images, image: LocalImage): Promise<void> {
  expect(image.config).toMatchObject({ cmd: ["/bin/true"], user: "5:6" });
  const read = await layersOf(images, image);
  expect(read.map((bytes, index) => bytes.equals(layers[index] ?? Buffer.alloc(0)))).toEqual([true, true]);
}

describe.skipIf(!has("skopeo") || !has("umoci"))("archives of skopeo (needs skopeo, umoci)", () => {
  it("docker-archive, plain and compressed as a whole, has the digests of the original", async () => {
    await using directory = await TemporaryDirectory.make();
    const file = directory.join("saved.tar");
    await skopeo(`oci:${layout}:v1`, `docker-archive:${file}:example.com/app:v1`);
    const images = new Images({ root: directory.join("store"), env: process.env });
    const plain = await images.obtain(`docker-archive:${file}`, { pull: "missing" });
    await expectTheImage(images, plain);
    for (const [program, suffix] of [
      ["gzip", "gz"],
      ["zstd", "zst"],
      ["xz", "xz"],
      ["bzip2", "bz2"],
    ] as const) {
      await runProgram("sh", ["-c", `${program} -c <"$0" >"$0.${suffix}"`, file]);
      const compressed = await images.obtain(`docker-archive:${file}.${suffix}:example.com/app:v1`, {
        pull: "missing",
      });
      expect({ ...compressed, reference: "" }).toEqual({ ...plain, reference: "" });
    }
    expect(await images.obtain(`docker-archive:${file}:@0`, { pull: "never" })).toMatchObject({
      manifestDigest: plain.manifestDigest,
    });
  });

  it("the tar of a layout that umoci made is an oci-archive, whatever stands before the names", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = new Images({ root: directory.join("store"), env: process.env });
    const original = await images.obtain(`oci:${layout}:v1`, { pull: "missing" });
    for (const [index, args] of [
      ["."],
      ["blobs", "oci-layout", "index.json"],
      ["--format=v7", "."],
    ].entries()) {
      const file = directory.join(`layout${index}.tar`);
      await runProgram("tar", ["-cf", file, "-C", layout, ...args]);
      const archived = await images.obtain(`oci-archive:${file}:v1`, { pull: "missing" });
      expect(archived.manifestDigest).toBe(original.manifestDigest);
    }
  });

  it("oci-archive keeps the manifest to the byte", async () => {
    await using directory = await TemporaryDirectory.make();
    const file = directory.join("oci:archive.tar");
    await skopeo(`oci:${layout}:v1`, `oci-archive:${directory.join("x.tar")}:v1`);
    await copyFile(directory.join("x.tar"), file);
    const images = new Images({ root: directory.join("store"), env: process.env });
    const original = await images.obtain(`oci:${layout}:v1`, { pull: "missing" });
    for (const reference of [
      `oci-archive:${file}`,
      `oci-archive:${file}:v1`,
      `oci-archive:${file}@${original.manifestDigest}`,
    ]) {
      const archived = await images.obtain(reference, { pull: "missing" });
      expect({ ...archived, reference: "" }).toEqual({ ...original, reference: "" });
    }
    await expect(images.obtain(`oci-archive:${file}:v2`, { pull: "missing" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
      message: expect.stringContaining('no image tagged "v2"; its tags are "v1"'),
    });
  });
});

describe.skipIf(missing.some((tool) => tool !== "docker"))(
  "archives of podman (needs podman, skopeo, umoci)",
  () => {
    it("docker-archive of two images, and oci-archive, come by their names", async () => {
      await using directory = await TemporaryDirectory.make();
      const saved = directory.join("saved.tar");
      const oci = directory.join("oci.tar");
      await skopeo(`oci:${layout}:v1`, `docker-archive:${directory.join("a.tar")}:example.com/a:1`);
      await podman("load", "--quiet", "--input", directory.join("a.tar"));
      await podman("tag", "example.com/a:1", "example.com/b:2");
      await podman(
        "save",
        "--quiet",
        "--format",
        "docker-archive",
        "--output",
        saved,
        "example.com/a:1",
        "example.com/b:2",
      );
      await podman("save", "--quiet", "--format", "oci-archive", "--output", oci, "example.com/b:2");
      const images = new Images({ root: directory.join("store"), env: process.env });
      const loaded = await images.load({ file: saved });
      expect(loaded.flatMap(({ names }) => names).sort()).toEqual(["example.com/a:1", "example.com/b:2"]);
      await expectTheImage(images, await images.obtain("example.com/b:2", { pull: "never" }));
      const [fromOci] = await images.load({ file: oci });
      expect(fromOci?.names).toEqual(["example.com/b:2"]);
      if (fromOci !== undefined) await expectTheImage(images, fromOci.image);
    });
  },
);

describe.skipIf(!hasDocker || missing.length > 0)("archives of docker (needs a Docker Engine)", () => {
  it("come by a pipe as well as from a file", async () => {
    await using directory = await TemporaryDirectory.make();
    const saved = directory.join("saved.tar");
    await skopeo(`oci:${layout}:v1`, `docker-archive:${directory.join("a.tar")}:firectl-archives:1`);
    await runProgram("docker", ["load", "--quiet", "--input", directory.join("a.tar")]);
    try {
      await runProgram("docker", ["save", "--output", saved, "firectl-archives:1"]);
    } finally {
      await runProgram("docker", ["rmi", "firectl-archives:1"]);
    }
    await chmod(saved, 0o644);
    const images = new Images({ root: directory.join("store"), env: process.env });
    await expectTheImage(images, await images.obtain(`docker-archive:${saved}`, { pull: "missing" }));
    async function* stream(): AsyncGenerator<Uint8Array> {
      const bytes = await readFile(saved);
      for (let at = 0; at < bytes.length; at += 10_007) yield bytes.subarray(at, at + 10_007);
    }
    const other = new Images({ root: directory.join("other"), env: process.env });
    const [loaded] = await other.load({ chunks: stream(), label: "standard input" });
    expect(loaded?.names).toEqual(["docker.io/library/firectl-archives:1"]);
    if (loaded !== undefined) await expectTheImage(other, loaded.image);
  });
});

describe.skipIf(!has("skopeo") || !has("umoci"))("what save writes", () => {
  const loaded = async (directory: TemporaryDirectory): Promise<Images> => {
    const images = new Images({ root: directory.join("store"), env: process.env });
    const file = directory.join("in.tar");
    await skopeo(`oci:${layout}:v1`, `docker-archive:${file}:example.com/app:v1`);
    await images.load({ file });
    await images.tag("example.com/app:v1", "again");
    return images;
  };
  const write = async (
    images: Images,
    file: string,
    format: "docker-archive" | "oci-archive",
  ): Promise<void> => {
    await writeFile(file, images.save(["example.com/app:v1", "again"], { format }));
  };

  it("is read by skopeo and umoci, with the same digests and files", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = await loaded(directory);
    const original = await images.find("again");
    for (const format of ["docker-archive", "oci-archive"] as const) {
      const file = directory.join(`${format}.tar`);
      await write(images, file, format);
      expect(
        (await readFile(file)).equals(
          await collect(images.save(["example.com/app:v1", "again"], { format })),
        ),
      ).toBe(true);
      const inspected: unknown = JSON.parse(
        await runProgram("skopeo", ["inspect", "--raw", `${format}:${file}:example.com/app:v1`]),
      );
      expect(inspected).toMatchObject({ config: { digest: original?.configDigest } });
      await runProgram("mkdir", [directory.join(format)]);
      await runProgram("tar", ["-xf", file, "-C", directory.join(format)]);
      const bundle = directory.join(`${format}-bundle`);
      const tag = format === "docker-archive" ? "v1" : "example.com/app:v1";
      await runProgram("umoci", [
        "unpack",
        "--rootless",
        "--image",
        `${directory.join(format)}:${tag}`,
        bundle,
      ]);
      expect((await readFile(path.join(bundle, "rootfs/etc/second"))).equals(noise(2_000_000, "two"))).toBe(
        true,
      );
      // And by firectl itself.
      const other = new Images({ root: directory.join(`${format}-store`), env: process.env });
      const [image] = await other.load({ file });
      expect(image?.names).toEqual(["example.com/app:v1", "docker.io/library/again:latest"]);
      expect(image?.image.manifestDigest).toBe(original?.manifestDigest);
    }
  });

  it.skipIf(!has("podman"))("is loaded by podman (needs podman)", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = await loaded(directory);
    const { configDigest } = (await images.find("again")) ?? { configDigest: "" };
    // Of an oci-archive podman takes no more than one image.
    for (const [format, names] of [
      ["docker-archive", ["again", "example.com/app:v1"]],
      ["oci-archive", ["again"]],
    ] as const) {
      const file = directory.join(`${format}.tar`);
      await writeFile(file, images.save(names, { format }));
      await podman("rmi", "--all", "--force");
      await podman("load", "--quiet", "--input", file);
      const listed = await podman("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}");
      const expected = names.map((name) => name.replace("again", "docker.io/library/again:latest"));
      expect(listed.split("\n").sort()).toEqual(expected.map((name) => `${name} ${configDigest}`));
    }
  });

  it.skipIf(!hasDocker)("is loaded by docker (needs a Docker Engine)", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = await loaded(directory);
    const file = directory.join("saved.tar");
    await write(images, file, "docker-archive");
    try {
      const output = await runProgram("docker", ["load", "--input", file]);
      expect(output).toContain("Loaded image: example.com/app:v1");
      expect(output).toContain("Loaded image: again:latest");
      const id = await runProgram("docker", ["image", "inspect", "--format", "{{.Id}}", "again:latest"]);
      expect(id).toBe((await images.find("again"))?.configDigest);
    } finally {
      await runProgram("docker", ["rmi", "--force", "again:latest", "example.com/app:v1"]);
    }
  });
});
