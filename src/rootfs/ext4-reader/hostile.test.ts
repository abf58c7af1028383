import { open, truncate } from "node:fs/promises";
import { describe, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { dir, file, hardLink, symlink } from "../../tar/tar-builder.test-helper.ts";
import {
  buildChecked,
  debugfs,
  layersOf,
  tool,
  type Workspace,
  workspace,
} from "../built-image.test-helper.ts";
import { walkView } from "../overlay/walk.ts";
import { readTree } from "../read-image.test-helper.ts";
import { openFilesystem } from "./filesystem.ts";

const editor = await tool("debugfs");

const TREE = [
  dir("d"),
  file("d/file", Buffer.alloc(20_000, "x")),
  file("d/other", Buffer.alloc(20_000, "y")),
  file("d/fil2", ""),
  dir("d/sub"),
  symlink("link", "t".repeat(100)),
  hardLink("hard", "d/file"),
  file("attributes", "", { pax: [["SCHILY.xattr.user.a", Buffer.alloc(2000, "v")]] }),
];

describe("our own images", () => {
  test("are read as they were written", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(space, layersOf(TREE));
    const read = await readTree(path);
    expect(read.lines.map((line) => line.split(" ", 3).slice(0, 2).join(" "))).toEqual([
      "attributes 100644",
      "d 40755",
      "d/fil2 100644",
      "d/file 100644",
      "d/other 100644",
      "d/sub 40755",
      "hard 100644",
      "link 120777",
    ]);
    expect(read.xattrs).toEqual([`attributes user.a=${"76".repeat(2000)}`]);
  });
});

describe.skipIf(editor === undefined)("a disk that lies (debugfs)", () => {
  /** An image with the changes of debugfs commands, or of a function on its bytes, made to it. */
  async function damaged(
    space: Workspace,
    change: readonly string[] | ((bytes: Buffer) => void),
  ): Promise<string> {
    const { path } = await buildChecked(space, layersOf(TREE));
    if (typeof change === "function") {
      const handle = await open(path, "r+");
      const bytes = await handle.readFile();
      change(bytes);
      await handle.write(bytes, 0, bytes.length, 0);
      await handle.close();
    } else {
      await edit(path, change);
    }
    return path;
  }

  const sif = (name: string, field: string, value: number | string) => `sif /${name} ${field} ${value}`;
  const edit = (path: string, commands: readonly string[]) =>
    runProgram(editor ?? "", ["-w", "-f", "-", path], { input: `${commands.join("\n")}\n` });
  const MORE_THAN_THE_DISK = /inode \d+: with it, the files have more than the disk's \d+ blocks$/;

  test.for<readonly [what: string, change: readonly string[] | ((bytes: Buffer) => void), message: RegExp]>([
    ["no filesystem", (bytes) => bytes.fill(0, 1024, 2048), /it holds no ext4 filesystem$/],
    [
      "an unknown feature",
      (bytes) => bytes.writeUInt32LE(0x4000_0002, 1024 + 0x60),
      /has the feature 0x40000000, which/,
    ],
    [
      "compression",
      (bytes) => bytes.writeUInt32LE(3, 1024 + 0x60),
      /has the feature compression, which firectl/,
    ],
    ["blocks too large", (bytes) => bytes.writeUInt32LE(40, 1024 + 0x18), /blocks of 1024 << 40 bytes$/],
    [
      "more blocks than the disk",
      (bytes) => bytes.writeUInt32LE(1e9, 1024 + 4),
      /1000000000 blocks of 4096 bytes are more/,
    ],
    ["no blocks in a group", (bytes) => bytes.writeUInt32LE(0, 1024 + 0x20), /: 0 blocks in a group$/],
    ["inodes without groups", (bytes) => bytes.writeUInt32LE(7, 1024), /: 7 inodes in 1 groups of \d+$/],
    ["inodes of an odd size", (bytes) => bytes.writeUInt16LE(200, 1024 + 0x58), /: inodes of 200 bytes$/],
    [
      "an inode table elsewhere",
      (bytes) => bytes.writeUInt32LE(1e8, 4096 + 8),
      /inode 2: it would be in block 100000000 of/,
    ],
    ["a root that is a file", [sif("", "mode", "0100644")], /inode 2: the root is no directory$/],
    [
      "an extent beyond the disk",
      [sif("d/file", "block[5]", 1e6)],
      /inode \d+: blocks 1000000 to 1000004 of a disk of \d+$/,
    ],
    [
      "an extent tree without a magic",
      [sif("d/file", "block[0]", 5)],
      /inode \d+: its extent tree has a node that is none$/,
    ],
    [
      "an extent tree of depth 9",
      [sif("d/file", "block[1]", 0x9_0004)],
      /inode \d+: its extent tree has a node of depth 9$/,
    ],
    [
      "a node with too many entries",
      [sif("d/file", "block[0]", 0x5f30a)],
      /inode \d+: its extent tree has a node of 5 entries$/,
    ],
    [
      "an empty extent",
      [sif("d/file", "block[4]", 0)],
      /inode \d+: its extents are out of order at block 0 of the file$/,
    ],
    [
      "one extent over another",
      [
        sif("d/file", "block[0]", 0x2f30a),
        sif("d/file", "block[6]", 2),
        sif("d/file", "block[7]", 5),
        sif("d/file", "block[8]", 3),
      ],
      /inode \d+: its extents are out of order at block 2 of the file$/,
    ],
    [
      "a file of more than the disk",
      [sif("d", "size", 2 ** 31)],
      /inode \d+: the directory has a hole at block 1 of 524288$/,
    ],
    [
      "a directory in itself",
      ["link /d /d/sub/loop"],
      /inode \d+: the directory has two places in the tree$/,
    ],
    [
      "a directory in two places",
      ["link /d/sub /sub"],
      /inode \d+: the directory has two places in the tree$/,
    ],
    [
      "a second name of a file with one link",
      ["link /attributes /again"],
      /inode \d+: more names lead to it than its link count of 1$/,
    ],
    [
      "a third name of a file with two links",
      ["link /d/file /again"],
      /inode \d+: more names lead to it than its link count of 2$/,
    ],
    [
      "a name that is there twice",
      (bytes) => rename(bytes, "fil2", "file"),
      /inode \d+: the directory has the name "file" twice$/,
    ],
    [
      "a removed file",
      [sif("d/file", "links_count", 0)],
      /inode \d+: it was removed, yet a directory names it$/,
    ],
    ["a type that Linux lacks", [sif("d/file", "mode", "0170644")], /inode \d+: a mode of 0170644$/],
    [
      "a symlink that is too long",
      [sif("link", "size", 5000)],
      /inode \d+: 5000 bytes where at most 4095 can be$/,
    ],
    [
      "a symlink with a NUL",
      [sif("link", "size", 200)],
      /inode \d+: the symlink's target is empty or has a NUL/,
    ],
    ["an encrypted file", [sif("d/file", "flags", 0x80800)], /inode \d+: it is encrypted$/],
    [
      "attributes beyond the disk",
      [sif("attributes", "file_acl", 1e6)],
      /inode \d+: its attributes would be in block 1000000$/,
    ],
    [
      "attributes that are none",
      [sif("attributes", "file_acl", 1)],
      /inode \d+: block 1 holds no attributes$/,
    ],
    [
      "an inode beyond the table",
      (bytes) => renumber(bytes, "file", 1e6),
      /inode 1000000: there are \d+ inodes$/,
    ],
    [
      "a name with a slash",
      (bytes) => rename(bytes, "other", "ot/er"),
      /an entry of the directory has a slash or a NUL in its name$/,
    ],
    [
      "a name with a NUL",
      (bytes) => rename(bytes, "other", "ot\0er"),
      /an entry of the directory has a slash or a NUL in its name$/,
    ],
    [
      "an entry without an end",
      (bytes) => bytes.writeUInt16LE(6, entryAt(bytes, "other") + 4),
      /an entry of the directory has 6 bytes$/,
    ],
    [
      "an entry beyond its block",
      (bytes) => bytes.writeUInt16LE(4096, entryAt(bytes, "other") + 4),
      /an entry of the directory has 4096 bytes$/,
    ],
    [
      "a name beyond its entry",
      (bytes) => (bytes[entryAt(bytes, "other") + 6] = 200),
      /has a name of 200 bytes in \d+$/,
    ],
  ])("%s", async ([, change, message], { expect }) => {
    await using space = await workspace();
    const path = await damaged(space, change);
    const error: unknown = await readTree(path).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      code: expect.stringMatching(/^(DISK_INVALID|UNSUPPORTED)$/),
      message: expect.stringMatching(message),
    });
    expect((error as Error).message.startsWith(`${path}: `)).toBe(true);
  });

  /** Where a directory has the entry of a name. */
  function entryAt(bytes: Buffer, name: string): number {
    for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
      if (bytes[at - 2] === name.length && bytes.readUInt16LE(at - 4) % 4 === 0) return at - 8;
    }
    throw new Error(`no entry ${name}`);
  }

  function renumber(bytes: Buffer, name: string, inode: number): void {
    bytes.writeUInt32LE(inode, entryAt(bytes, name));
  }

  function rename(bytes: Buffer, name: string, to: string): void {
    bytes.write(to, entryAt(bytes, name) + 8, "latin1");
  }

  test("two files over the same blocks: little cannot be made into much", async ({ expect }) => {
    await using space = await workspace();
    const many = Array.from({ length: 40 }, (_, i) => file(`f${i}`, Buffer.alloc(20_000, "x")));
    const { path } = await buildChecked(space, layersOf(many));
    const [first = ""] = await debugfs(path, ["blocks f0"]);
    const block = first.trim().split(/\s+/)[0] ?? "";
    const commands = many.flatMap(({ name }) => [sif(name, "block[5]", block)]);
    await edit(path, commands);
    using volume = openFilesystem(path);
    // What is shared is only noticed once it is more than there is.
    expect(volume.superblock.blocks).toBeLessThan(300);
    const grown = many.flatMap(({ name }) => [
      sif(name, "size", 4096 * 200),
      sif(name, "block[4]", 100),
      sif(name, "block[5]", 1),
    ]);
    await edit(path, grown);
    await expect(readTree(path)).rejects.toThrow(MORE_THAN_THE_DISK);
  });

  test("files over the same blocks that were never written: nothing is not gone through for ever", async ({
    expect,
  }) => {
    await using space = await workspace();
    const many = Array.from({ length: 40 }, (_, i) => file(`f${i}`, Buffer.alloc(20_000, "x")));
    const { path } = await buildChecked(space, layersOf(many));
    const unwritten = many.flatMap(({ name }) => [
      sif(name, "block[4]", 32_768 + 100),
      sif(name, "block[5]", 1),
    ]);
    await edit(path, unwritten);
    await expect(readTree(path)).rejects.toThrow(MORE_THAN_THE_DISK);
  });

  test("files whose maps share their nodes: the same nodes are not gone through for ever", async ({
    expect,
  }) => {
    await using space = await workspace();
    const many = Array.from({ length: 40 }, (_, i) => file(`f${i}`, ""));
    const { path } = await buildChecked(space, layersOf([file("node", Buffer.alloc(4096, "x")), ...many]));
    const [listed = ""] = await debugfs(path, ["blocks node"]);
    const node = Number(listed.trim());
    // An index of three nodes, each of which is an empty leaf.
    const index = many.flatMap(({ name }) => [
      sif(name, "size", 4096),
      sif(name, "block[0]", 0x3f30a),
      sif(name, "block[1]", 0x1_0004),
      ...[0, 1, 2].map((entry) => sif(name, `block[${4 + 3 * entry}]`, node)),
    ]);
    await edit(path, index);
    const handle = await open(path, "r+");
    await handle.write(Buffer.from([0x0a, 0xf3, 0, 0, 0x54, 1, 0, 0]), 0, 8, node * 4096);
    await handle.close();
    using volume = openFilesystem(path);
    expect(volume.superblock.blocks).toBeLessThan(3 * many.length);
    await expect(readTree(path)).rejects.toThrow(MORE_THAN_THE_DISK);
  });

  test("a symlink over many blocks that were never written", async ({ expect }) => {
    await using space = await workspace();
    const options = { writable: { sizeBytes: 16 * 2 ** 20 } };
    const { path } = await buildChecked(space, layersOf(TREE), options);
    const commands = [sif("link", "block[4]", 32_768 + 66), sif("link", "block[5]", 1)];
    await edit(path, commands);
    await expect(readTree(path)).rejects.toThrow(/inode \d+: 100 bytes in more than 65 blocks$/);
  });

  test("many attributes with one value: a hole of 64 KiB is not read for ever", async ({ expect }) => {
    await using space = await workspace();
    const many = Array.from({ length: 25 }, (_, i) => file(`f${i}`, ""));
    const { path } = await buildChecked(space, layersOf([...TREE, file("value", ""), ...many]));
    const [listed = "", stat = ""] = await debugfs(path, ["ls -l /", "stat /attributes"]);
    const valueInode = Number(/^ *(\d+) .* value *$/m.exec(listed)?.[1]);
    const block = Number(/File ACL: (\d+)/.exec(stat)?.[1]);
    const commands = [
      sif("value", "flags", 0x28_0000),
      sif("value", "size", 65_536),
      ...many.map(({ name }) => sif(name, "file_acl", block)),
    ];
    await edit(path, commands);
    const attributes = Buffer.alloc(4096);
    attributes.writeUInt32LE(0xea02_0000, 0);
    attributes.writeUInt32LE(1, 8);
    for (let entry = 0; entry < 200; entry++) {
      const at = 32 + 20 * entry;
      attributes.set([3, 1], at);
      attributes.writeUInt32LE(valueInode, at + 4);
      attributes.writeUInt32LE(65_536, at + 8);
      attributes.write(`${100 + entry}`, at + 16);
    }
    const handle = await open(path, "r+");
    await handle.write(attributes, 0, attributes.length, block * 4096);
    await handle.close();
    let values = 0;
    using volume = openFilesystem(path);
    const walk = () => {
      for (const { entry } of walkView({ kind: "plain", volume })) values += entry.xattrs?.length ?? 0;
    };
    expect(walk).toThrow(/inode \d+: with it, paths and attributes have more than \d+ bytes$/);
    // 256 MiB and a little: more than 20 files' values, not all 26.
    expect(values).toBe(20 * 200);
  });

  test("data that would stand in another inode", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(
      space,
      layersOf([file("inline", "", { pax: [["SCHILY.xattr.user.data", "value"]] })]),
    );
    const commands = [sif("inline", "flags", 0x1000_0000), sif("inline", "size", 65)];
    await edit(path, commands);
    const handle = await open(path, "r+");
    const bytes = await handle.readFile();
    // user.data, made into system.data: e_name_index and e_value_inum.
    const entry = bytes.indexOf("data", bytes.indexOf(Buffer.from([0, 0, 2, 0xea]))) - 16;
    bytes[entry + 1] = 7;
    bytes.writeUInt32LE(5, entry + 4);
    await handle.write(bytes, 0, bytes.length, 0);
    await handle.close();
    await expect(readTree(path)).rejects.toThrow(/inode \d+: its data would be in inode 5$/);
  });

  test("directories nested deeper than any path: 64 KiB of it are shown", async ({ expect }) => {
    await using space = await workspace();
    const { path } = await buildChecked(space, layersOf([]), { writable: { sizeBytes: 16 * 2 ** 20 } });
    const name = "n".repeat(255);
    const nest = Array.from({ length: 256 }, () => [`mkdir ${name}`, `cd ${name}`]).flat();
    await edit(path, nest);
    expect((await readTree(path)).lines.length).toBe(256);
    const deeper = [...nest.filter((command) => command.startsWith("cd")), "mkdir one-more"];
    await edit(path, deeper);
    await expect(readTree(path)).rejects.toThrow(/inode \d+: a path of 65544 bytes leads to it$/);
  });

  test("a disk that is cut short", async ({ expect }) => {
    await using space = await workspace();
    const { path, sizeBytes } = await buildChecked(space, layersOf(TREE));
    await truncate(path, sizeBytes - 4096);
    await expect(readTree(path)).rejects.toThrow(/blocks of 4096 bytes are more than the disk's \d+ bytes$/);
    await truncate(path, 2000);
    await expect(readTree(path)).rejects.toThrow(/: 2000 bytes are no filesystem$/);
  });
});
