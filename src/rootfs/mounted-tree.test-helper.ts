import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { lstat, mkdtemp, readdir, readFile, readlink } from "node:fs/promises";
import { runProgram } from "../host/process.ts";
import type { Workspace } from "./built-image.test-helper.ts";

/** What stands for a file's contents. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64");
}

/** Everything that a path is, as a line of text. */
async function describePath(root: string, name: Buffer): Promise<string> {
  const full = Buffer.concat([Buffer.from(`${root}/`), name]);
  const info = await lstat(full, { bigint: true });
  const type = Number(info.mode & 0o170000n);
  const parts = [
    name.toString("latin1"),
    info.mode.toString(8),
    `${info.uid}:${info.gid}`,
    info.mtimeNs,
    type === 0o040000 ? "" : `${info.size} links=${info.nlink}`,
    type === 0o020000 || type === 0o060000 ? info.rdev : "",
    type === 0o120000 ? await readlink(full, "latin1") : "",
  ];
  if (type === 0o100000 && info.size < 2 ** 24) parts.push(digestOf(await readFile(full)));
  return parts.join(" ");
}

/** A line for each path below `root`, sorted. */
export async function describeTree(root: string): Promise<string[]> {
  const lines: string[] = [];
  const todo: Buffer[] = [Buffer.alloc(0)];
  for (let directory = todo.pop(); directory !== undefined; directory = todo.pop()) {
    const entries = await readdir(Buffer.concat([Buffer.from(`${root}/`), directory]), {
      withFileTypes: true,
      encoding: "buffer",
    });
    for (const entry of entries) {
      const name =
        directory.length === 0 ? entry.name : Buffer.concat([directory, Buffer.from("/"), entry.name]);
      // overlayfs lists whiteouts of a directory that only one layer has, but does not find them.
      if (!existsSync(Buffer.concat([Buffer.from(`${root}/`), name])) && !entry.isSymbolicLink()) continue;
      lines.push(await describePath(root, name));
      if (entry.isDirectory()) todo.push(name);
    }
  }
  return lines.sort();
}

/** Every extended attribute of the tree, ACLs and capabilities among them; names are bytes in a latin1 string. */
export async function attributes(root: string): Promise<string> {
  const list = "find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -hd -m- -e hex";
  const encoded = await runProgram("sh", ["-c", `(${list}) | base64 -w0`], { cwd: root });
  return Buffer.from(encoded, "base64").toString("latin1");
}

/** Mounts an image by the kernel (root, loop devices) while `use` runs. */
export async function mounted<T>(
  space: Workspace,
  image: string,
  use: (root: string) => Promise<T>,
): Promise<T> {
  const target = await mkdtemp(`${space.path}/mount-`);
  await runProgram("mount", ["-o", "loop,ro", image, target]);
  try {
    return await use(target);
  } finally {
    await runProgram("umount", [target]);
  }
}
