import { closeSync, openSync } from "node:fs";
import fc from "fast-check";
import { test } from "vitest";
import { TarReader } from "../../tar/reader.ts";
import { type TestEntry, tarOf } from "../../tar/tar-builder.test-helper.ts";
import { workspace } from "../built-image.test-helper.ts";
import { BlockFile } from "../ext4/block-file.ts";
import { FileTree, type PlaceId } from "../ext4/tree.ts";
import { layerEntries } from "../layer-entries.test-helper.ts";
import { limitsOf } from "../limits.ts";
import { FileData } from "./file-data.ts";
import { Flattener } from "./flatten.ts";

/** What overlaying layers must give, done the slow way: unpack each on its own, then lay it over those below. */
type Unpacked = Map<string, { readonly mode: number; readonly directory: boolean }>;

const below = (path: string) => (other: string) => other.startsWith(`${path}/`);
const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const baseOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);

function remove(tree: Unpacked, path: string): void {
  for (const other of [...tree.keys()].filter(below(path))) tree.delete(other);
  tree.delete(path);
}

function overlay(lower: Unpacked, entries: readonly TestEntry[]): Unpacked {
  const result = new Map(lower);
  const own: Unpacked = new Map();
  for (const entry of entries) {
    const base = baseOf(entry.name);
    if (base.startsWith(".wh.")) continue;
    const directory = entry.type === "5";
    if (!directory || own.get(entry.name)?.directory !== true) remove(own, entry.name);
    own.set(entry.name, { mode: entry.mode ?? 0o644, directory });
  }
  for (const entry of entries) {
    const parent = parentOf(entry.name);
    const base = baseOf(entry.name);
    if (base === ".wh..wh..opq")
      for (const other of [...result.keys()].filter(below(parent))) result.delete(other);
    else if (base.startsWith(".wh.")) remove(result, `${parent}${parent === "" ? "" : "/"}${base.slice(4)}`);
  }
  for (const [path, node] of own) {
    if (!(node.directory && result.get(path)?.directory === true)) remove(result, path);
    result.set(path, node);
  }
  return result;
}

function listing(tree: FileTree, root: PlaceId): Unpacked {
  const found: Unpacked = new Map();
  const visit = (place: PlaceId): void => {
    const directory = tree.directory(place);
    if (place !== root) {
      const mode = tree.inodes.mode(tree.inode(place)) & 0o7777;
      found.set(tree.path(place), { mode, directory: directory !== undefined });
    }
    if (directory === undefined) return;
    for (let child = tree.first(directory); child !== undefined; child = tree.next(child)) visit(child);
  };
  visit(root);
  return found;
}

test("any stack of layers merges as overlaying them one by one does", async ({ expect }) => {
  await using space = await workspace();
  const fd = openSync(space.fresh(), "wx+");
  try {
    const stack = fc.tuple(
      layerEntries(0o700),
      layerEntries(0o710),
      layerEntries(0o711),
      layerEntries(0o755),
    );
    fc.assert(
      fc.property(stack, (layers) => {
        const tree = new FileTree();
        const data = new FileData(new BlockFile(fd, "image"), tree.inodes);
        const flattener = new Flattener(tree, data, limitsOf());
        for (const entries of layers.toReversed()) {
          const sink = flattener.layer("layer");
          const reader = new TarReader("layer", sink);
          reader.push(tarOf(entries));
          reader.finish();
          sink.finish();
        }
        const expected = layers.reduce<Unpacked>(overlay, new Map());
        expect(new Map([...listing(tree, flattener.finish())].sort())).toEqual(new Map([...expected].sort()));
      }),
      { numRuns: 2000 },
    );
  } finally {
    closeSync(fd);
  }
});

test("65535 layers can be told apart, and not one more are taken", async ({ expect }) => {
  await using space = await workspace();
  const fd = openSync(space.fresh(), "wx+");
  try {
    const tree = new FileTree();
    const flattener = new Flattener(tree, new FileData(new BlockFile(fd, "image"), tree.inodes), limitsOf());
    for (let i = 1; i <= 65_535; i++) flattener.layer(`${i}`).finish();
    expect(() => flattener.layer("one more")).toThrow("layer one more: the image has more than 65535 layers");
    expect(flattener.layerName(flattener.finish())).toBe("1");
  } finally {
    closeSync(fd);
  }
});
