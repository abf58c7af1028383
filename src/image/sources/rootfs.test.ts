import {
  chmod,
  link,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import { type TarEntry, TarReader } from "../../tar/reader.ts";
import { chunksOf, collect, hasTool, noise, TemporaryDirectory, tar } from "../image.test-helper.ts";
import { Images, type LocalImage, type PullProgress } from "../images.ts";
import { RootfsSource } from "./rootfs.ts";

const archive = tar([
  { name: "bin/", type: "5" },
  { name: "bin/true", content: noise(400_000, "true") },
]);

function imagesIn(directory: TemporaryDirectory, env: NodeJS.ProcessEnv = process.env): Images {
  return new Images({ root: directory.join("store"), env });
}

async function layerOf(images: Images, image: LocalImage): Promise<Buffer> {
  const [layer, ...others] = image.layers;
  if (layer === undefined || others.length > 0) throw new Error("a root filesystem has one layer");
  return collect(images.openLayer(layer));
}

async function entriesOf(images: Images, image: LocalImage): Promise<Map<string, TarEntry>> {
  const entries = new Map<string, TarEntry>();
  const reader = new TarReader("the layer", {
    entry(entry) {
      entries.set(entry.path, entry);
      return false;
    },
    data() {},
    end() {},
  });
  reader.push(await layerOf(images, image));
  reader.finish();
  return entries;
}

describe("rootfs:TAR", () => {
  it("is an image of that tar alone, which says nothing about running it", async () => {
    await using directory = await TemporaryDirectory.make();
    await writeFile(directory.join("root.tar"), archive);
    const images = imagesIn(directory);
    const image = await images.obtain(`rootfs:${directory.join("root.tar")}`, { pull: "missing" });
    expect((await layerOf(images, image)).equals(archive)).toBe(true);
    expect(image).toMatchObject({
      reference: `rootfs:${directory.join("root.tar")}`,
      config: { entrypoint: [], cmd: [], env: [], user: "", workingDir: "" },
    });
    expect(image.createdAt).toBeUndefined();
  });

  it.each([
    ["gzip", ["-c"]],
    ["zstd", ["-q", "-c"]],
    ["xz", ["-c"]],
    ["bzip2", ["-c"]],
  ])("may be compressed by %s", async (program, args) => {
    if (!(await hasTool(program))) return;
    await using directory = await TemporaryDirectory.make();
    const file = directory.join("root.tar");
    await writeFile(file, archive);
    await runProgram("sh", ["-c", `"$0" ${args.join(" ")} "$1" >"$1.x"`, program, file]);
    const images = imagesIn(directory);
    const plain = await images.obtain(`rootfs:${file}`, { pull: "missing" });
    const compressed = await images.obtain(`rootfs:${file}.x`, { pull: "missing" });
    expect(compressed.manifestDigest).toBe(plain.manifestDigest);
    await truncate(`${file}.x`, 1000);
    await expect(images.obtain(`rootfs:${file}.x`, { pull: "missing" })).rejects.toMatchObject({
      code: "ARCHIVE_INVALID",
      message: expect.stringContaining(`${file}.x cannot be unpacked`),
    });
    const without = imagesIn(directory, { PATH: directory.path });
    if (program === "xz" || program === "bzip2") {
      await expect(without.obtain(`rootfs:${file}.x`, { pull: "missing" })).rejects.toMatchObject({
        code: "TOOL_MISSING",
        message: expect.stringContaining(`compressed by ${program}, which is not installed`),
      });
    }
  });

  it("is read each time, and written only when it has changed", async () => {
    await using directory = await TemporaryDirectory.make();
    const file = directory.join("root.tar");
    await writeFile(file, archive);
    const images = imagesIn(directory);
    const obtain = () => images.obtain(`rootfs:${file}`, { pull: "missing" });
    const first = await obtain();
    const blobs = await readdir(directory.join("store/blobs/sha256"));
    await utimes(file, 1, 1);
    expect(await obtain()).toEqual(first);
    expect(await readdir(directory.join("store/blobs/sha256"))).toEqual(blobs);
    const changed = tar([{ name: "else", content: noise(10_000, "else") }]);
    await writeFile(file, changed);
    expect((await layerOf(images, await obtain())).equals(changed)).toBe(true);
    // The former one has lost its name.
    expect((await images.list()).filter(({ name }) => name !== undefined)).toHaveLength(1);
  });

  it.each<[string, Buffer]>([
    ["an empty file", Buffer.alloc(0)],
    ["a file shorter than a header", archive.subarray(0, 511)],
    ["a text", Buffer.from("hello\n".repeat(1000))],
    ["zeros and then something", Buffer.concat([noise(512, "x"), Buffer.alloc(4096)])],
  ])("is refused for %s", async (_what, bytes) => {
    await using directory = await TemporaryDirectory.make();
    const file = directory.join("root.tar");
    await writeFile(file, bytes);
    await expect(imagesIn(directory).obtain(`rootfs:${file}`, { pull: "missing" })).rejects.toMatchObject({
      code: "ARCHIVE_INVALID",
      message: expect.stringContaining(`${file} is not a tar archive`),
    });
    expect(await readdir(directory.join("store/ingest"))).toEqual([]);
  });

  it("must be there", async () => {
    await using directory = await TemporaryDirectory.make();
    await expect(
      imagesIn(directory).obtain(`rootfs:${directory.join("none")}`, { pull: "missing" }),
    ).rejects.toMatchObject({ code: "FILE_NOT_FOUND", message: `there is no ${directory.join("none")}` });
  });

  it("may come by a pipe, and from standard input", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    await runProgram("mkfifo", [directory.join("pipe")]);
    const writing = writeFile(directory.join("pipe"), archive);
    const image = await images.obtain(`rootfs:${directory.join("pipe")}`, { pull: "missing" });
    await writing;
    const stdin = chunksOf(archive, 100);
    const streamed = await images.bring(new RootfsSource("rootfs:-", { path: "-", stdin }));
    expect(streamed).toMatchObject({ reference: "rootfs:-", manifestDigest: image.manifestDigest });
    expect((await images.find("rootfs:-"))?.manifestDigest).toBe(image.manifestDigest);
  });
});

const canSetAttributes =
  process.getuid?.() === 0 && (await hasTool("setfattr")) && (await hasTool("setfacl"));
const hasBusybox = await hasTool("busybox");
const isGnuTar = await runProgram("tar", ["--version"]).then(
  (text) => text.includes("GNU tar"),
  () => false,
);

describe.skipIf(!isGnuTar)("rootfs:DIR (needs GNU tar)", () => {
  async function makeTree(root: string): Promise<void> {
    await mkdir(`${root}/sub`, { recursive: true });
    await writeFile(`${root}/z-last`, "z");
    await writeFile(`${root}/sub/file`, noise(100_000, "file"));
    await link(`${root}/sub/file`, `${root}/sub/hard`);
    await symlink("../z-last", `${root}/sub/soft`);
    await writeFile(`${root}/sparse`, "x");
    await truncate(`${root}/sparse`, 50_000_000);
    await writeFile(`${root}/sub/n\xe4me with \n and "`, "");
    await chmod(`${root}/z-last`, 0o4751);
    for (const file of ["z-last", "sub/file", "sparse", `sub/n\xe4me with \n and "`, "sub", ""]) {
      await utimes(`${root}/${file}`, 1_700_000_000.25, 1_700_000_001.5);
    }
    await runProgram("touch", ["-h", "-d", "@1700000000", `${root}/sub/soft`]);
  }

  it("holds what is in the directory, and has the same digest for the same content", async () => {
    await using directory = await TemporaryDirectory.make();
    await makeTree(directory.join("one"));
    await makeTree(directory.join("two"));
    const images = imagesIn(directory);
    const one = await images.obtain(`rootfs:${directory.join("one")}`, { pull: "missing" });
    await readFile(directory.join("two/z-last"));
    const two = await images.obtain(`rootfs:${directory.join("two")}`, { pull: "missing" });
    expect(two.manifestDigest).toBe(one.manifestDigest);
    expect((await layerOf(images, one)).length).toBeLessThan(1_000_000);
    const entries = await entriesOf(images, one);
    expect(entries.get("./z-last")).toMatchObject({
      mode: 0o4751,
      mtimeSec: 1_700_000_001,
      mtimeNsec: 500_000_000,
    });
    expect(entries.get("./sparse")).toMatchObject({ size: 50_000_000, sparse: expect.anything() });
    expect(entries.get("./sub/hard")).toMatchObject({ type: "link", linkPath: "./sub/file" });
    expect(entries.get("./sub/soft")).toMatchObject({ type: "symlink", linkPath: "../z-last" });
    expect([...entries.keys()].some((name) => name.endsWith('me with \n and "'))).toBe(true);
  });

  it.skipIf(!canSetAttributes)(
    "has attributes of all namespaces, ACLs and owners (needs root, attr, acl)",
    async () => {
      await using directory = await TemporaryDirectory.make();
      const root = directory.join("root");
      await mkdir(root);
      const file = `${root}/file`;
      await writeFile(file, "");
      const supported = await runProgram("setfattr", ["-n", "user.mine", "-v", "0x00ff80", file]).then(
        () => true,
        () => false,
      );
      if (!supported) return;
      await runProgram("setfattr", ["-n", "trusted.mine", "-v", "t", file]);
      await runProgram("setfattr", ["-n", "security.mine", "-v", "s", file]);
      await runProgram("setfacl", ["-m", "u:5:r", file]);
      await runProgram("chown", ["70000:80000", file]);
      const images = imagesIn(directory);
      const image = await images.obtain(`rootfs:${root}`, { pull: "missing" });
      const entry = (await entriesOf(images, image)).get("./file");
      expect(entry).toMatchObject({ uid: 70_000, gid: 80_000 });
      expect(entry?.xattrs?.map(({ name }) => name).sort()).toEqual([
        "security.mine",
        "system.posix_acl_access",
        "trusted.mine",
        "user.mine",
      ]);
      expect(entry?.xattrs?.find(({ name }) => name === "user.mine")?.value).toEqual(
        Buffer.from([0, 0xff, 0x80]),
      );
    },
  );

  it("leaves out sockets, and says so; leaves out the store", async () => {
    await using directory = await TemporaryDirectory.make();
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(directory.join("a.sock"), resolve));
    try {
      const images = imagesIn(directory);
      const events: PullProgress[] = [];
      const image = await images.obtain(`rootfs:${directory.path}`, {
        pull: "missing",
        onProgress: (event) => events.push(event),
      });
      expect(events).toContainEqual({ type: "notice", message: "sockets are left out: ./a.sock" });
      expect([...(await entriesOf(images, image)).keys()]).toEqual(["./"]);
    } finally {
      server.close();
    }
  });

  it.skipIf(process.getuid?.() === 0)("refuses what cannot be read (needs not to be root)", async () => {
    await using directory = await TemporaryDirectory.make();
    await mkdir(directory.join("root"));
    await writeFile(directory.join("root/secret"), "", { mode: 0 });
    await expect(
      imagesIn(directory).obtain(`rootfs:${directory.join("root")}`, { pull: "missing" }),
    ).rejects.toMatchObject({ code: "PERMISSION_DENIED", message: expect.stringContaining("./secret") });
  });

  it.skipIf(!hasBusybox)("needs GNU tar, and says so (needs busybox)", async () => {
    await using directory = await TemporaryDirectory.make();
    await mkdir(directory.join("bin"));
    const busybox = await runProgram("sh", ["-c", "command -v busybox"]);
    await symlink(busybox, directory.join("bin/tar"));
    for (const search of [directory.join("bin"), directory.path]) {
      const images = imagesIn(directory, { PATH: search });
      await expect(
        images.obtain(`rootfs:${directory.join("bin")}`, { pull: "missing" }),
      ).rejects.toMatchObject({
        code: "TOOL_MISSING",
        message: expect.stringContaining("needs GNU tar"),
      });
    }
    await rm(directory.join("bin"), { recursive: true });
  });
});
