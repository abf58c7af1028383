import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findExecutable } from "../host/files.ts";
import { runProgram } from "../host/process.ts";
import { dir, type TestEntry, tarOf } from "../tar/tar-builder.test-helper.ts";
import { type BuildRootfsOptions, type BuiltRootfs, buildRootfs, type LayerInput } from "./build-rootfs.ts";
import { buildSnapshots } from "./snapshot/build-snapshots.ts";

export const UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";

/** A layer that gives its bytes in pieces of `chunk`. */
export function layer(name: string, bytes: Buffer, chunk: number = 64 * 1024): LayerInput {
  return {
    name,
    open: async function* () {
      for (let at = 0; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk);
    },
  };
}

/** Layers of entries, bottom first, named by their place. */
export function layersOf(...stack: ReadonlyArray<readonly TestEntry[]>): LayerInput[] {
  return stack.map((entries, index) => layer(`layer-${index}`, tarOf(entries)));
}

/** A directory that goes away with `await using`. */
export interface Workspace extends AsyncDisposable {
  readonly path: string;
  /** A name in it that nothing has. */
  readonly fresh: (suffix?: string) => string;
}

export async function workspace(): Promise<Workspace> {
  const directory = await mkdtemp(path.join(tmpdir(), "firectl-rootfs-"));
  return {
    path: directory,
    fresh: (suffix = "") => path.join(directory, `${randomUUID()}${suffix}`),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

const searchPath = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;

/** Where a program is that a test needs, or undefined: then the test is skipped by name. */
export function tool(name: string): Promise<string | undefined> {
  return findExecutable(name, searchPath);
}

/** Builds an image, lets e2fsck check it, and returns where it is. */
export async function buildChecked(
  space: Workspace,
  layers: readonly LayerInput[],
  options: Partial<BuildRootfsOptions> = {},
): Promise<BuiltRootfs & { readonly path: string }> {
  const target = space.fresh(".ext4");
  const built = await buildRootfs({ layers, path: target, uuid: UUID, sync: false, ...options });
  await checkFilesystem(target);
  return { ...built, path: target };
}

/**
 * A disk as overlayfs leaves it: `entries` in the directory `upper`, each after its directory, with overlayfs's notes,
 * which layers cannot have. Returns where it is.
 */
export async function buildUpperDisk(space: Workspace, entries: readonly TestEntry[]): Promise<string> {
  const target = space.fresh(".ext4");
  const tar = tarOf([dir("./"), ...entries]);
  const upper = { name: "upper", source: "upper", isDirectory: true, open: () => chunksOf(tar) };
  await buildSnapshots({ path: target, uuid: UUID, snapshots: [upper] });
  await checkFilesystem(target);
  return target;
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Lets e2fsck look at the whole filesystem; whatever it finds is an error. */
export async function checkFilesystem(image: string): Promise<void> {
  const e2fsck = await tool("e2fsck");
  if (e2fsck !== undefined) await runProgram(e2fsck, ["-fn", image]);
}

/** Runs debugfs commands on an image and returns what each printed. */
export async function debugfs(image: string, commands: readonly string[]): Promise<string[]> {
  const program = (await tool("debugfs")) ?? "debugfs";
  const output = await runProgram(program, ["-f", "-", image], { input: `${commands.join("\n")}\n` });
  // debugfs repeats each command after a prompt of its own, on the line where the last output ended.
  let rest = output;
  const outputs: string[] = [];
  for (const command of commands) {
    const echo = `debugfs: ${command}`;
    const at = rest.indexOf(echo);
    if (at < 0) throw new Error(`debugfs did not run ${command}`);
    outputs.push(rest.slice(0, at));
    rest = rest.slice(at + echo.length).replace(/^\n/, "");
  }
  return [...outputs.slice(1), rest];
}

/** What `readImage` tells of one path. */
export interface ListedEntry {
  readonly inode: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
}

/** Every path of an image with what its directory entry and inode say, read by debugfs. */
export async function readImage(image: string): Promise<Map<string, ListedEntry>> {
  const listed = new Map<string, ListedEntry>();
  let level = [""];
  while (level.length > 0) {
    const outputs = await debugfs(
      image,
      level.map((directory) => `ls -p "${directory}/"`),
    );
    const next: string[] = [];
    outputs.forEach((output, index) => {
      for (const match of output.matchAll(/^\/(\d+)\/(\d+)\/(\d+)\/(\d+)\/(.*)\/(\d*)\/$/gm)) {
        const [, inode, mode, uid, gid, name, size] = match;
        if (name === "." || name === "..") continue;
        const place = `${level[index]}/${name}`;
        const bits = Number.parseInt(mode ?? "", 8);
        listed.set(place, {
          inode: Number(inode),
          mode: bits,
          uid: Number(uid),
          gid: Number(gid),
          size: Number(size),
        });
        if ((bits & 0o170000) === 0o040000) next.push(place);
      }
    });
    level = next;
  }
  return listed;
}

/** The contents of the image's files, by path; directories and others are left out. */
export async function readContents(image: string): Promise<Record<string, string>> {
  const files = [...(await readImage(image))].filter(([, entry]) => (entry.mode & 0o170000) === 0o100000);
  const outputs = await debugfs(
    image,
    files.map(([place]) => `cat "${place}"`),
  );
  return Object.fromEntries(files.map(([place], index) => [place, outputs[index] ?? ""]));
}
