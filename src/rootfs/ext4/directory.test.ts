import { describe, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { tool, UUID } from "../built-image.test-helper.ts";
import {
  encodeDirectory,
  entryBytes,
  indexNodes,
  NODE_INDEX_ENTRIES,
  planDirectory,
  ROOT_INDEX_ENTRIES,
} from "./directory.ts";
import { directoryHash } from "./directory-hash.ts";
import { newDirectory } from "./inodes.ts";
import { type DirectoryId, FileTree } from "./tree.ts";
import { parseUuid, uuidWords } from "./uuid.ts";

const SEED = uuidWords(parseUuid(UUID));

interface TestDirectory {
  readonly tree: FileTree;
  readonly directory: DirectoryId;
}

/** A directory of directories, its inode 12 and theirs from 100 on. */
function directory(names: Iterable<string>): TestDirectory {
  const tree = new FileTree();
  const root = tree.addRoot(tree.inodes.add(newDirectory(0o755)));
  tree.inodes.setNumber(tree.inode(root), 12);
  let number = 100;
  for (const name of names) {
    const place = tree.addDirectory(root, name, newDirectory(0o755));
    tree.inodes.setNumber(tree.inode(place), number++);
  }
  const made = tree.directory(root);
  if (made === undefined) throw new Error("a root is a directory");
  return { tree, directory: made };
}

const numbered = (count: number, length = 0) =>
  Array.from({ length: count }, (_, i) => `name-${i}`.padEnd(length, "."));

/** Every name of a directory in the order of its blocks, index blocks read as the empty blocks they pretend to be. */
function namesIn(blocks: readonly Buffer[]): string[] {
  return blocks.flatMap((block) => {
    const names: string[] = [];
    for (let at = 0; at < block.length; at += block.readUInt16LE(at + 4)) {
      if (block.readUInt32LE(at) === 0) continue;
      names.push(block.toString("latin1", at + 8, at + 8 + block.readUInt8(at + 6)));
    }
    return names;
  });
}

function encode({ tree, directory: made }: TestDirectory): { blocks: Buffer[]; planned: number } {
  const plan = planDirectory(tree, made, SEED);
  const blocks: Buffer[] = [];
  encodeDirectory(tree, made, { index: plan.index, emit: (block) => blocks.push(Buffer.from(block)) });
  return { blocks, planned: plan.blocks };
}

describe("directories", () => {
  // A block less the dots has 4072 bytes: 254 entries of 16 and 8 left.
  test.for([
    [0, 1],
    [254, 1],
    [255, 2],
    [254 + 256, 2],
    [254 + 257, 3],
    [513, 4],
  ] as const)("%i names of 8 bytes take %i blocks", ([count, blocks], { expect }) => {
    const names = Array.from({ length: count }, (_, i) => String(i).padStart(8, "0"));
    const encoded = encode(directory(names));
    expect(encoded.planned).toBe(blocks);
    expect(encoded.blocks).toHaveLength(blocks);
    expect(namesIn(encoded.blocks).sort()).toEqual([".", "..", ...names]);
  });

  test.for([
    [1, 12],
    [4, 12],
    [5, 16],
    [255, 264],
  ] as const)("a name of %i bytes takes %i", ([length, bytes], { expect }) => {
    expect(entryBytes(length)).toBe(bytes);
  });

  test("an index of two levels leads to every name", ({ expect }) => {
    // 15 entries of 264 bytes to a block: more blocks than the root has entries.
    const names = numbered((ROOT_INDEX_ENTRIES + 2) * 15, 255);
    const { blocks, planned } = encode(directory(names));
    const leaves = names.length / 15;
    expect(planned).toBe(1 + Math.ceil(leaves / NODE_INDEX_ENTRIES) + leaves);
    expect(blocks).toHaveLength(planned);
    expect(blocks[0]?.[30]).toBe(1);
    expect(namesIn(blocks)).toHaveLength(names.length + 2);
  });

  test.for([
    [ROOT_INDEX_ENTRIES, 0],
    [ROOT_INDEX_ENTRIES + 1, 1],
    [NODE_INDEX_ENTRIES, 1],
    [NODE_INDEX_ENTRIES + 1, 2],
    [ROOT_INDEX_ENTRIES * NODE_INDEX_ENTRIES, ROOT_INDEX_ENTRIES],
    // A third level would need the feature large_dir.
    [ROOT_INDEX_ENTRIES * NODE_INDEX_ENTRIES + 1, undefined],
  ] as const)("an index of %i leaves has %s nodes below its root", ([leaves, nodes], { expect }) => {
    expect(indexNodes(leaves)).toBe(nodes);
  });
});

const debugfsPath = await tool("debugfs");

test.skipIf(debugfsPath === undefined)("hashes are those of e2fsprogs (debugfs)", async ({ expect }) => {
  const names = [
    "a",
    "passwd",
    "libc.so.6",
    "x".repeat(31),
    "y".repeat(32),
    "z".repeat(33),
    "n".repeat(255),
    "h\u00e9",
  ];
  for (const name of names) {
    const output = await runProgram(debugfsPath ?? "", ["-R", `dx_hash -h half_md4 -s ${UUID} ${name}`]);
    const bytes = Buffer.from(name).toString("latin1");
    expect([name, Number(/is (0x[0-9a-f]+)/.exec(output)?.[1])]).toEqual([name, directoryHash(bytes, SEED)]);
  }
});
