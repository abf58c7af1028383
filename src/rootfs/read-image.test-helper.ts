import type { TarEntry } from "../tar/reader.ts";
import { openFilesystem } from "./ext4-reader/filesystem.ts";
import { digestOf } from "./mounted-tree.test-helper.ts";
import { type RootView, walkView } from "./overlay/walk.ts";

/** What our own reader finds in an image or view, in the form that `describeTree` and `attributes` have. */
export interface ReadTree {
  /** As `describeTree` has them. */
  readonly lines: string[];
  /** `name attribute=hex…`, a line for each attribute, sorted. */
  readonly xattrs: string[];
  readonly entries: ReadonlyMap<string, TarEntry>;
}

/** Reads the only filesystem of an image. */
export async function readTree(image: string): Promise<ReadTree> {
  using volume = openFilesystem(image);
  return await readView({ kind: "plain", volume });
}

/** Reads a view. */
export async function readView(view: RootView): Promise<ReadTree> {
  const entries = new Map<string, TarEntry>();
  const contents = new Map<string, string>();
  const links = new Map<string, number>();
  /** The first of an inode's names, by name. */
  const firsts = new Map<string, string>();
  for (const { entry, data } of walkView(view)) {
    const first = entry.type === "link" ? entry.linkPath : entry.path;
    firsts.set(entry.path, first);
    links.set(first, (links.get(first) ?? 0) + 1);
    if (entry.type === "link") continue;
    entries.set(entry.path, entry);
    if (entry.type !== "file" || entry.size >= 2 ** 24) continue;
    const bytes = Buffer.alloc(entry.size);
    let at = 0;
    let [segment, ...rest] = entry.sparse ?? [{ offset: 0, length: entry.size }];
    for await (const chunk of data ?? []) {
      for (let done = 0; done < chunk.length; ) {
        if (segment === undefined) throw new Error("more data than segments");
        const end = Math.min(chunk.length, done + segment.length - at);
        bytes.set(chunk.subarray(done, end), segment.offset + at);
        at += end - done;
        done = end;
        if (at < segment.length) continue;
        [segment, ...rest] = rest;
        at = 0;
      }
    }
    contents.set(entry.path, digestOf(bytes));
  }
  const lines: string[] = [];
  const xattrs: string[] = [];
  for (const [name, first] of firsts) {
    const entry = entries.get(first);
    if (entry === undefined) throw new Error(`${name} is a link to ${first}, which did not come before`);
    lines.push(lineOf(name, entry, { links: links.get(first) ?? 0, content: contents.get(first) }));
    for (const each of entry.xattrs ?? []) xattrs.push(`${name} ${each.name}=${each.value.toString("hex")}`);
  }
  return { lines: lines.sort(), xattrs: xattrs.sort(), entries };
}

const TYPE_BITS: Readonly<Record<string, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  "character-device": 0o020000,
  "block-device": 0o060000,
  fifo: 0o010000,
};

function lineOf(name: string, entry: TarEntry, of: { links: number; content: string | undefined }): string {
  const mode = (TYPE_BITS[entry.type] ?? 0) | entry.mode;
  const size = entry.type === "symlink" ? entry.linkPath.length : entry.size;
  const isDevice = entry.type === "character-device" || entry.type === "block-device";
  const parts = [
    name,
    mode.toString(8),
    `${entry.uid}:${entry.gid}`,
    BigInt(entry.mtimeSec) * 1_000_000_000n + BigInt(entry.mtimeNsec),
    entry.type === "directory" ? "" : `${size} links=${of.links}`,
    isDevice ? deviceNumber(entry.devMajor, entry.devMinor) : "",
    entry.type === "symlink" ? entry.linkPath : "",
  ];
  if (of.content !== undefined) parts.push(of.content);
  return parts.join(" ");
}

/** st_rdev as Linux gives it to programs. */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + major * 2 ** 8 + Math.floor(minor / 256) * 2 ** 20;
}

/** The attributes of `getfattr -hd -m- -e hex`, in the form of {@link ReadTree}. */
export function parseGetfattr(text: string): string[] {
  const lines: string[] = [];
  let name = "";
  for (const line of text.split("\n")) {
    const file = /^# file: (.*)$/.exec(line);
    const decode = (escaped: string) =>
      escaped.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (file !== null) name = decode(file[1] ?? "").replace(/^\.\//, "");
    const xattr = /^([^=#]+)(?:=0x([0-9a-f]*))?$/.exec(line);
    if (xattr !== null) lines.push(`${name} ${decode(xattr[1] ?? "")}=${xattr[2] ?? ""}`);
  }
  // The root's own are not read.
  return lines.filter((line) => !line.startsWith(". ")).sort();
}
