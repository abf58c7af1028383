import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { propertyRuns, SLOW_TEST_MS } from "../core/property-runs.test-helper.ts";
import { runProgram } from "../host/process.ts";
import { writeTar } from "../tar/writer.ts";
import { buildChecked, layer, tool, type Workspace, workspace } from "./built-image.test-helper.ts";
import { openFilesystem } from "./ext4-reader/filesystem.ts";
import { attributes, describeTree, mounted } from "./mounted-tree.test-helper.ts";
import { walkView } from "./overlay/walk.ts";
import { layersOfStack, randomStack, type Thing } from "./random-stack.test-helper.ts";
import { parseGetfattr, readTree } from "./read-image.test-helper.ts";

/*
 * Random stacks of layers, written by firectl and looked at in every way there is: by e2fsck, by our own reader, by
 * the kernel, and by umoci, which unpacks the same stack on its own.
 */

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

function tarsOf(things: ReadonlyArray<readonly Thing[]>): Promise<Buffer[]> {
  return Promise.all(layersOfStack(things).map((contents) => bytesOf(writeTar(contents))));
}

function build(space: Workspace, tars: readonly Buffer[]): ReturnType<typeof buildChecked> {
  return buildChecked(
    space,
    tars.map((tar, index) => layer(`layer-${index}`, tar, 10_000 + index)),
  );
}

async function exportOf(image: string): Promise<Buffer> {
  using volume = openFilesystem(image);
  return await bytesOf(writeTar(walkView({ kind: "plain", volume })));
}

test("an image and the image made of its export are the same to our reader (e2fsck where it is)", {
  timeout: SLOW_TEST_MS,
}, async () => {
  await using space = await workspace();
  const check = async (things: Thing[][]) => {
    const first = await build(space, await tarsOf(things));
    const archive = await exportOf(first.path);
    const second = await build(space, [archive]);
    expect(await readTree(second.path)).toEqual(await readTree(first.path));
    expect((await exportOf(second.path)).equals(archive)).toBe(true);
    await Promise.all([rm(first.path), rm(second.path)]);
  };
  await fc.assert(fc.asyncProperty(randomStack, check), { ...propertyRuns(15), endOnFailure: true });
});

/** An OCI layout of layers that are not compressed. */
async function writeLayout(directory: string, tars: readonly Buffer[]): Promise<void> {
  await mkdir(`${directory}/blobs/sha256`, { recursive: true });
  const put = async (bytes: Buffer, mediaType: string) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    await writeFile(`${directory}/blobs/sha256/${hex}`, bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const layers = await Promise.all(tars.map((tar) => put(tar, "application/vnd.oci.image.layer.v1.tar")));
  const config = await put(
    json({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
    }),
    "application/vnd.oci.image.config.v1+json",
  );
  const manifest = await put(
    json({ schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config, layers }),
    "application/vnd.oci.image.manifest.v1+json",
  );
  const named = { ...manifest, annotations: { "org.opencontainers.image.ref.name": "latest" } };
  await writeFile(`${directory}/oci-layout`, json({ imageLayoutVersion: "1.0.0" }));
  await writeFile(`${directory}/index.json`, json({ schemaVersion: 2, manifests: [named] }));
}

async function unpackByUmoci(space: Workspace, tars: readonly Buffer[]): Promise<string> {
  const [layout, bundle] = [space.fresh(), space.fresh()];
  await writeLayout(layout, tars);
  await runProgram("umoci", ["unpack", "--image", `${layout}:latest`, bundle]);
  await rm(layout, { recursive: true });
  return bundle;
}

/**
 * umoci's lines, but for directories that it touched once more when an opaque marker came late: those have the time
 * of the test, and are given ours.
 */
function withTimesOf(ours: readonly string[], theirs: readonly string[], startMs: number): string[] {
  return theirs.map((line, index) => {
    const time = / (\d+) {3}$/.exec(line)?.[1];
    const ms = Number(time) / 1e6;
    const isOfTheTest = time !== undefined && ms >= startMs && ms <= Date.now();
    return isOfTheTest ? line.replace(/\d+ {3}$/, / (-?\d+ {3})$/.exec(ours[index] ?? "")?.[1] ?? "") : line;
  });
}

const required = ["umoci", "mount", "umount", "getfattr", "e2fsck"];
const found = await Promise.all(required.map(tool));
const usable =
  process.getuid?.() === 0 && existsSync("/dev/loop-control") && found.every((path) => path !== undefined);

describe.skipIf(!usable)(`random stacks (root, loop devices, ${required.join(", ")})`, () => {
  test("are the same to our reader, to the kernel, and as umoci unpacks them", {
    timeout: SLOW_TEST_MS,
  }, async () => {
    await using space = await workspace();
    const check = async (things: Thing[][]) => {
      const startMs = Date.now();
      const tars = await tarsOf(things);
      const { path } = await build(space, tars);
      const ours = await readTree(path);
      const [kernelLines, kernelXattrs] = await mounted(space, path, async (root) => [
        await describeTree(root),
        parseGetfattr(await attributes(root)),
      ]);
      expect(ours.lines).toEqual(kernelLines);
      expect(ours.xattrs).toEqual(kernelXattrs);

      const bundle = await unpackByUmoci(space, tars);
      const root = `${bundle}/rootfs`;
      expect(ours.lines).toEqual(withTimesOf(ours.lines, await describeTree(root), startMs));
      expect(ours.xattrs).toEqual(parseGetfattr(await attributes(root)));
      await Promise.all([rm(path), rm(bundle, { recursive: true })]);
    };
    await fc.assert(fc.asyncProperty(randomStack, check), { ...propertyRuns(10), endOnFailure: true });
  });
});

test("the generator makes everything that it should", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(randomStack, (things) => {
      layersOfStack(things).forEach((contents, index) => {
        const own = new Set(contents.map(({ entry }) => entry.path));
        for (const { entry } of contents) {
          seen.add(entry.type);
          if (/(^|\/)\.wh\.[^.]/.test(entry.path)) seen.add("whiteout");
          if (entry.path.endsWith("/.wh..wh..opq")) seen.add("opaque");
          if (entry.sparse !== undefined) seen.add("sparse");
          if (entry.xattrs !== undefined) seen.add("xattrs");
          if (entry.type === "link" && !own.has(entry.linkPath)) seen.add(`link across, layer ${index}`);
        }
      });
    }),
    { numRuns: 200, seed: 1 },
  );
  expect([...seen].sort()).toEqual(
    expect.arrayContaining([
      ...["block-device", "character-device", "directory", "fifo", "file", "link", "link across, layer 1"],
      ...["opaque", "sparse", "symlink", "whiteout", "xattrs"],
    ]),
  );
});
