import { existsSync } from "node:fs";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { describe, test } from "vitest";
import { runProgram } from "../host/process.ts";
import { checkFilesystem, debugfs, readImage, tool, UUID, workspace } from "./built-image.test-helper.ts";
import { createWritableDisk, MIN_DISK_BYTES } from "./writable-disk.ts";

const tools = (await tool("e2fsck")) !== undefined && (await tool("debugfs")) !== undefined;
const DIRECTORIES = [
  { name: "upper", mode: 0o755 },
  { name: "work", mode: 0o755 },
];
const GIB = 2 ** 30;

describe.skipIf(!tools)("createWritableDisk (e2fsck, debugfs)", () => {
  test.for([
    MIN_DISK_BYTES,
    MIN_DISK_BYTES + 4096 + 1,
    128 * 2 ** 20,
    128 * 2 ** 20 + 4096,
    GIB,
    10 * GIB,
    100 * GIB,
    1024 * GIB,
  ])("%i bytes", async (sizeBytes, { expect }) => {
    await using space = await workspace();
    const path = space.fresh();
    await createWritableDisk({ path, sizeBytes, uuid: UUID, directories: DIRECTORIES, label: "firectl" });
    await checkFilesystem(path);
    const { size, blocks } = await stat(path);
    expect(size).toBe(sizeBytes);
    expect(blocks * 512).toBeLessThan(2 ** 20);
    const listed = await readImage(path);
    expect([...listed].map(([name, { mode, uid, gid }]) => [name, mode, uid, gid])).toEqual([
      ["/upper", 0o40755, 0, 0],
      ["/work", 0o40755, 0, 0],
    ]);
    const [superblock] = await debugfs(path, ["show_super_stats -h"]);
    expect(superblock).toContain("has_journal");
    expect(superblock).toContain(UUID);
    expect(superblock).toMatch(/volume name:\s+firectl/);
  });
});

const mountable =
  process.getuid?.() === 0 && existsSync("/dev/loop-control") && (await tool("mount")) !== undefined;

test.skipIf(!mountable || !tools)(
  "the kernel mounts it and writes to it (root, loop devices)",
  async ({ expect }) => {
    await using space = await workspace();
    const path = space.fresh();
    const sizeBytes = 2 * GIB;
    await createWritableDisk({ path, sizeBytes, uuid: UUID, directories: DIRECTORIES });
    const target = space.fresh();
    await mkdir(target);
    await runProgram("mount", ["-o", "loop", path, target]);
    try {
      for (let i = 0; i < 500; i++) await writeFile(`${target}/upper/file-${i}`, "x".repeat(i * 50));
      await writeFile(`${target}/big`, Buffer.alloc(150 * 2 ** 20, 1));
    } finally {
      await runProgram("umount", [target]);
    }
    await checkFilesystem(path);
    expect((await readImage(path)).size).toBe(503);
  },
);

test.for([
  ["too small", { sizeBytes: MIN_DISK_BYTES - 1 }, /^a disk of \d+ bytes: from 8388608 to/],
  ["too large", { sizeBytes: 2 ** 44 }, /^a disk of \d+ bytes/],
  ["no size", { sizeBytes: Number.NaN }, /^a disk of NaN bytes/],
  ["a long label", { label: "seventeen letters" }, /is not at most 16 bytes/],
  ["a UUID that is none", { uuid: "12" }, /"12" is not a UUID/],
] as const)("refuses %s", async ([, wrong, message], { expect }) => {
  await using space = await workspace();
  const path = space.fresh();
  const making = createWritableDisk({ path, sizeBytes: GIB, uuid: UUID, directories: [], ...wrong });
  await expect(making).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(making).rejects.toThrow(message);
  expect(existsSync(path)).toBe(false);
});

test("an existing file is refused and left alone", async ({ expect }) => {
  await using space = await workspace();
  const path = space.fresh();
  await writeFile(path, "precious");
  await expect(
    createWritableDisk({ path, sizeBytes: GIB, uuid: UUID, directories: [] }),
  ).rejects.toMatchObject({ code: "IO_FAILED" });
  expect((await stat(path)).size).toBe(8);
});
