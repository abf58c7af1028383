import { existsSync } from "node:fs";
import { mkdtemp, open, truncate, writeFile } from "node:fs/promises";
import { describe, type ExpectStatic, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { tool, type Workspace, workspace } from "../built-image.test-helper.ts";
import { attributes, describeTree } from "../mounted-tree.test-helper.ts";
import { parseGetfattr, readTree } from "../read-image.test-helper.ts";
import { openFilesystem } from "./filesystem.ts";

const mke2fs = await tool("mke2fs");
const usable =
  process.getuid?.() === 0 && existsSync("/dev/loop-control") && (await tool("mount")) !== undefined;

/** Everything that ext4 has a form of its own for. */
const POPULATE = `set -e
  mkdir -p d/sub big
  head -c 300001 /dev/urandom > d/file; : > d/empty; echo tiny > d/tiny; head -c 120 /dev/urandom > d/small
  ln -s file d/short; ln -s "$(printf 'x/%.0s' $(seq 150))" d/long; ln d/file d/hard; ln -P d/short d/hard-short
  mknod d/char c 1 3; mknod d/block b 259 70000; mkfifo d/pipe
  truncate -s 40M d/sparse; printf end | dd of=d/sparse bs=1 seek=30000000 conv=notrunc status=none
  truncate -s 5G d/beyond || truncate -s 2G d/beyond
  fallocate -l 3M d/unwritten || true; fallocate -l 2M d/partly || true
  printf middle | dd of=d/partly bs=1000 seek=300 conv=notrunc status=none
  mkdir emptied; touch emptied/$(seq -s ' emptied/' 300); rm emptied/*; echo left > emptied/left
  setfattr -n user.small -v 0x00ff80 d/empty d/short 2>/dev/null || setfattr -n user.small -v 0x00ff80 d/empty
  setfattr -n user.large -v 0x$(head -c 700 /dev/urandom | od -An -v -tx1 | tr -d ' \\n') d/file
  setfattr -n trusted.t -v t d; setfacl -m u:1234:rwx,g:70000:r d/empty d/sub; setfacl -d -m u:1234:rx d/sub
  touch -d '1960-05-06 07:08:09.123456789 UTC' d/empty; touch -d '2030-01-02 03:04:05.987654321 UTC' d/file
  chown 70000:3000000 d/empty; chmod 6711 d/file; chmod 1777 d/sub`;

/** A directory with an index, and a file whose extents need a tree. */
async function populateLarge(root: string): Promise<void> {
  for (let i = 0; i < 500; i++) await writeFile(`${root}/big/a-file-with-a-long-name-${i}`, `${i}`);
  const fragments = await open(`${root}/d/fragments`, "w");
  for (let i = 0; i < 700; i += 2) await fragments.write(`block ${i}`, i * 4096);
  await fragments.close();
}

/** A kernel's filesystem while it is mounted, so that its journal and caches are in use. */
async function onMounted(
  space: Workspace,
  image: string,
  use: (root: string) => Promise<void>,
): Promise<void> {
  const target = await mkdtemp(`${space.path}/mount-`);
  await runProgram("mount", ["-o", "loop", image, target]);
  try {
    await use(target);
  } finally {
    await runProgram("umount", [target]);
  }
}

async function expectSameAs(root: string, image: string, expect: ExpectStatic) {
  const read = await readTree(image);
  const without = (lines: readonly string[]) => lines.filter((line) => !line.startsWith("lost+found "));
  expect(without(read.lines)).toEqual(without(await describeTree(root)));
  expect(read.xattrs).toEqual(parseGetfattr(await attributes(root)));
}

describe.skipIf(!usable || mke2fs === undefined)("what a kernel wrote (root, loop devices, mke2fs)", () => {
  test.for([
    ["as mke2fs makes it", ["-t", "ext4", "-b", "4096"]],
    ["blocks of 1 KiB", ["-t", "ext4", "-b", "1024"]],
    [
      "data in inodes, values in inodes, checksums",
      ["-t", "ext4", "-b", "4096", "-O", "inline_data,ea_inode"],
    ],
    ["descriptors in meta groups", ["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"]],
    ["clusters", ["-t", "ext4", "-O", "bigalloc", "-C", "65536"]],
    ["small inodes, no checksums", ["-t", "ext4", "-b", "1024", "-I", "128", "-O", "^metadata_csum,^64bit"]],
    ["large inodes", ["-t", "ext4", "-b", "4096", "-I", "1024"]],
    ["ext3", ["-t", "ext3", "-b", "4096"]],
    ["ext2", ["-t", "ext2", "-b", "1024"]],
  ] as const)("%s", async ([, options], { expect }) => {
    await using space = await workspace();
    const image = space.fresh(".ext4");
    await writeFile(image, "");
    await truncate(image, 200 * 2 ** 20);
    await runProgram(mke2fs ?? "", ["-q", "-F", ...options, image]);
    const cut = space.fresh(".ext4");
    await onMounted(space, image, async (root) => {
      await runProgram("sh", ["-c", POPULATE], { cwd: root });
      await populateLarge(root);
      await runProgram("sync", ["-f", root]);
      // The disk as a power cut would leave it now.
      await runProgram("cp", ["--sparse=always", image, cut]);
      if (options[1] !== "ext2") await expectSameAs(root, cut, expect);
      await runProgram("mount", ["-o", "remount,ro", root]);
      await expectSameAs(root, image, expect);
    });
  });

  test("journals of many transactions, with blocks freed and used anew", async ({ expect }) => {
    await using space = await workspace();
    const image = space.fresh(".ext4");
    await writeFile(image, "");
    await truncate(image, 64 * 2 ** 20);
    await runProgram(mke2fs ?? "", ["-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", image]);
    const cut = space.fresh(".ext4");
    await onMounted(space, image, async (root) => {
      for (let round = 0; round < 40; round++) {
        // Directories' blocks become files' blocks and the other way round, which is what revocation is for.
        const script = `mkdir -p d$1; for i in $(seq 60); do : > d$1/a-name-that-is-long-enough-$i; done; sync -f .
          [ $1 -lt 3 ] || rm -r d$(($1-3)); head -c 200000 /dev/urandom > f$1; sync -f .
          [ $1 -lt 2 ] || rm f$(($1-2))`;
        await runProgram("sh", ["-c", script, "sh", String(round)], { cwd: root });
      }
      await runProgram("sync", ["-f", root]);
      await runProgram("cp", ["--sparse=always", image, cut]);
      expect(openFilesystem(cut).superblock.needsRecovery).toBe(true);
      await expectSameAs(root, cut, expect);
    });
  });
});
