import { readFile, truncate, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FirectlError } from "../../core/errors.ts";
import { type Mutation, mutate, mutations } from "../../core/mutations.test-helper.ts";
import { propertyRuns, SLOW_TEST_MS } from "../../core/property-runs.test-helper.ts";
import { runProgram } from "../../host/process.ts";
import { dir, file, hardLink, symlink } from "../../tar/tar-builder.test-helper.ts";
import {
  buildChecked,
  buildUpperDisk,
  layersOf,
  tool,
  type Workspace,
  workspace,
} from "../built-image.test-helper.ts";
import { type RootView, walkView } from "../overlay/walk.ts";
import { createWritableDisk } from "../writable-disk.ts";
import { openFilesystem } from "./filesystem.ts";

const [mke2fs, editor] = await Promise.all(["mke2fs", "debugfs"].map(tool));

const XATTR: readonly [string, string] = ["SCHILY.xattr.user.a", "v".repeat(400)];
const OPAQUE: readonly [string, string] = ["SCHILY.xattr.trusted.overlay.opaque", "y"];
const REDIRECT: readonly [string, string] = ["SCHILY.xattr.trusted.overlay.redirect", "/d/sub"];
const METACOPY: readonly [string, string] = ["SCHILY.xattr.trusted.overlay.metacopy", ""];
const TREE = [
  dir("d"),
  file("d/file", Buffer.alloc(9000, "x"), { pax: [XATTR] }),
  dir("d/sub"),
  file("d/sub/deep", "y"),
  symlink("link", "t".repeat(100)),
  symlink("short", "d/file"),
  hardLink("hard", "d/file"),
  { name: "device", type: "4", dev: [8, 300] as const },
];
/** As overlayfs writes it. */
const UPPER = [
  dir("d", { pax: [OPAQUE] }),
  dir("moved", { pax: [REDIRECT] }),
  file("moved/new", "new"),
  file("hard", "", { pax: [METACOPY] }),
  { name: "link", type: "3", dev: [0, 0] as const },
];

interface Sample {
  readonly name: string;
  readonly bytes: Buffer;
  /** Offsets of all that is not zero: the free space is no use. */
  readonly places: readonly number[];
}

let space: Workspace;
const samples: Sample[] = [];
let base: string;

beforeAll(async () => {
  space = await workspace();
  base = (await buildChecked(space, layersOf(TREE))).path;
  await addSample("our image", base);
  await addSample("an upper disk", await buildUpperDisk(space, UPPER));
  const empty = space.fresh(".ext4");
  const directories = [{ name: "upper", mode: 0o755 }];
  await createWritableDisk({ path: empty, sizeBytes: 8 * 2 ** 20, uuid: crypto.randomUUID(), directories });
  await addSample("an empty disk", empty);
  if (mke2fs === undefined || editor === undefined) return;
  for (const features of ["inline_data,metadata_csum,64bit", "^extents,^metadata_csum,^64bit"]) {
    await addSample(features, await cutOff(features));
  }
});

afterAll(() => space[Symbol.asyncDispose]());

async function addSample(name: string, path: string): Promise<void> {
  const bytes = await readFile(path);
  const places: number[] = [];
  for (let at = 0; at < bytes.length; at++) if (bytes[at] !== 0) places.push(at);
  samples.push({ name, bytes, places });
}

/** A filesystem of e2fsprogs with transactions in its journal. */
async function cutOff(features: string): Promise<string> {
  const image = space.fresh(".ext4");
  await writeFile(image, "");
  await truncate(image, 3 * 2 ** 20);
  const options = ["-q", "-F", "-t", "ext4", "-b", "1024", "-N", "64", "-J", "size=1", "-O", features];
  await runProgram(mke2fs ?? "", [...options, image]);
  const content = space.fresh();
  await writeFile(content, Buffer.alloc(30_000, "c"));
  const block = space.fresh();
  await writeFile(block, Buffer.alloc(1024, "j"));
  const script = [
    ...["mkdir /upper", "mkdir /upper/a", `write ${content} /upper/a/file`, "symlink /upper/l target"],
    ...["jo", `jw -b 1500 ${block}`, "jc", "jo", "jw -r 1500", `jw -b 1501 ${block}`, "jc"],
  ];
  await runProgram(editor ?? "", ["-w", "-f", "-", image], { input: `${script.join("\n")}\n` });
  return image;
}

/** Goes through all of a view, or to the error; returns how many bytes of data there were. */
async function readAll(view: RootView): Promise<number> {
  let bytes = 0;
  for (const { entry, data } of walkView(view)) {
    expect(entry.path.startsWith("/") || entry.path.split("/").includes("..")).toBe(false);
    for await (const chunk of data ?? []) bytes += chunk.length;
  }
  return bytes;
}

async function check(sample: Sample, changes: readonly Mutation[]): Promise<void> {
  const image = space.fresh(".ext4");
  // Writing in place: a disk has its size, and what is cut off has a test of its own.
  const inPlace = changes.filter(({ kind }) => kind !== "remove" && kind !== "repeat" && kind !== "cut");
  const bytes = mutate(sample.bytes, inPlace, sample.places);
  await writeFile(image, bytes);
  try {
    using volume = openFilesystem(image);
    // No more than there is, but for data that stands in inodes.
    const most = bytes.length + volume.superblock.inodes * 4096;
    expect(await readAll({ kind: "plain", volume })).toBeLessThanOrEqual(most);
    using lower = openFilesystem(base);
    const view: RootView = { kind: "overlay", lower, upper: volume, upperPath: "upper" };
    expect(await readAll(view)).toBeLessThanOrEqual(2 * most);
  } catch (error) {
    const isOurs = error instanceof FirectlError && /^(DISK_INVALID|UNSUPPORTED)$/.test(error.code);
    if (!isOurs) throw error;
  }
}

describe("a damaged disk is read or refused, and nothing else", () => {
  test("whatever is damaged", { timeout: SLOW_TEST_MS }, async () => {
    const run = async (index: number, changes: Mutation[]) => {
      const sample = samples[index % samples.length];
      if (sample !== undefined) await check(sample, changes);
    };
    await fc.assert(fc.asyncProperty(fc.nat(4), mutations, run), propertyRuns(250));
  });

  test("the samples themselves are sound", async () => {
    for (const sample of samples) {
      const image = space.fresh(".ext4");
      await writeFile(image, sample.bytes);
      using volume = openFilesystem(image);
      expect(await readAll({ kind: "plain", volume }), sample.name).toBeGreaterThanOrEqual(0);
    }
  });
});
