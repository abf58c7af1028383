import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findExecutable } from "../host/files.ts";
import { runProgram } from "../host/process.ts";
import { type BuildRootfsOptions, type BuiltRootfs, buildRootfs, type LayerInput } from "./build-rootfs.ts";

/** An entry of a tar that a test makes; what is left out is what a plain file has. */
export interface TestEntry {
  readonly name: string;
  /** Type flag; "0" unless given. */
  readonly type?: string;
  readonly data?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly link?: string;
  readonly dev?: readonly [major: number, minor: number];
  /** PAX records put before the entry. */
  readonly pax?: ReadonlyArray<readonly [key: string, value: string | Buffer]>;
  /** The size that the header claims, when it is not that of the data. */
  readonly size?: number;
  readonly magic?: "ustar" | "gnu" | "v7";
  /** Bytes put over the header before its checksum is made. */
  readonly patch?: ReadonlyArray<readonly [offset: number, bytes: Buffer]>;
}

export const UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";

/** A directory's entry. */
export function dir(name: string, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, type: "5", mode: 0o755, ...rest };
}

/** A file's entry. */
export function file(name: string, data: string | Buffer = name, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, data, ...rest };
}

/** A symlink's entry. */
export function symlink(name: string, link: string, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, link, type: "2", mode: 0o777, ...rest };
}

/** A hard link's entry. */
export function hardLink(name: string, link: string): TestEntry {
  return { name, link, type: "1" };
}

/** The archive of `entries`, with its two blocks of zeros. */
export function tarOf(entries: readonly TestEntry[]): Buffer {
  return Buffer.concat([...entries.map(encodeEntry), Buffer.alloc(1024)]);
}

/** One entry, PAX header and padding included. */
export function encodeEntry(entry: TestEntry): Buffer {
  const data = Buffer.from(entry.data ?? "");
  const parts: Buffer[] = [];
  if (entry.pax !== undefined) {
    const records = Buffer.concat(entry.pax.map(([key, value]) => paxRecord(key, value)));
    parts.push(encodeHeader({ name: "PaxHeader", type: "x", data: records }), padded(records));
  }
  parts.push(encodeHeader(entry), padded(data));
  return Buffer.concat(parts);
}

/** `<length> <key>=<value>\n`, the length counting itself. */
export function paxRecord(key: string, value: string | Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`, "latin1"), Buffer.from(value), Buffer.from("\n")]);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function encodeHeader(entry: TestEntry): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number) => {
    const digits = value.toString(8);
    if (value >= 0 && digits.length < length) header.write(digits.padStart(length - 1, "0"), at);
    else base256(value, length).copy(header, at);
  };
  header.write(entry.name, 0, 100, "latin1");
  octal(entry.mode ?? 0o644, 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(entry.size ?? Buffer.from(entry.data ?? "").length, 124, 12);
  octal(entry.mtime ?? 1_700_000_000, 136, 12);
  header.write(entry.type ?? "0", 156, 1, "latin1");
  header.write(entry.link ?? "", 157, 100, "latin1");
  if (entry.magic !== "v7") {
    header.write(entry.magic === "gnu" ? "ustar  \0" : "ustar\x0000", 257, "latin1");
    octal(entry.dev?.[0] ?? 0, 329, 8);
    octal(entry.dev?.[1] ?? 0, 337, 8);
  }
  for (const [offset, bytes] of entry.patch ?? []) bytes.copy(header, offset);
  header.write(" ".repeat(8), 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** A number in GNU's base-256 form. */
export function base256(value: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let rest = BigInt(value);
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0] = (bytes[0] ?? 0) | 0x80;
  return bytes;
}

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
