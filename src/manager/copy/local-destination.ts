import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
  symlinkSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { FirectlError } from "../../core/errors.ts";
import { descriptorPath, ioError } from "../../host/files.ts";
import { runProgram } from "../../host/process.ts";
import type { TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { type DirectoryAttributes, MadeEntries } from "./made-entries.ts";
import type { Placement } from "./placement.ts";

/*
 * Files that a guest says it has, made on this machine. The guest chooses every name and every link, so nothing is
 * looked up by a path: each directory on the way is opened without following links, and what is in it is reached
 * through its descriptor (/proc/self/fd/N/name, which is what openat(2) is elsewhere).
 */

/** From fcntl.h, the same on every Linux that Node runs on; `fs.constants` has none. */
const O_PATH = 0x20_0000;
const DIRECTORY: number = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const NEW_FILE: number = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const PERMISSIONS = 0o777;
/** So many devices are named, the others counted. */
const NAMED_DEVICES = 100;

export interface LocalCopyOptions {
  /** Keep owners, setuid and setgid bits where root copies. */
  readonly archive: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What has come of a copy. */
export interface LocalCopy {
  /** Bytes of files. */
  readonly bytes: number;
  /** The first of the devices, which a guest must not put on this machine. */
  readonly leftOut: readonly string[];
  /** All of them. */
  readonly leftOutCount: number;
}

/**
 * Makes what `contents` says below the directory of `placement`. A file appears whole or not at all. Directories
 * are merged with those that are there, other things replaced, and nothing is reached through a link.
 * @throws FirectlError WRONG_STATE when a directory stands where a file must go, or the reverse; PERMISSION_DENIED,
 *   NO_SPACE, IO_FAILED; the reason of `signal`.
 */
export async function writeLocally(
  contents: AsyncIterable<TarContent>,
  placement: Placement,
  options: LocalCopyOptions,
): Promise<LocalCopy> {
  using destination = new LocalDestination(placement, options);
  for await (const content of contents) {
    options.signal?.throwIfAborted();
    await destination.make(content);
  }
  destination.finish();
  return destination.result();
}

class LocalDestination implements Disposable {
  readonly #placement: Placement;
  readonly #keepsOwners: boolean;
  readonly #signal: AbortSignal | undefined;
  /** The directory of the copy, then those on the way to the last entry. */
  readonly #open: Array<{ readonly name: string; readonly descriptor: number }> = [];
  /** Files, for hard links to them, and directories, whose modes and times are set at the end. */
  readonly #made = new MadeEntries();
  readonly #leftOut: string[] = [];
  #leftOutCount = 0;
  #bytes = 0;
  /** A name under which something is being made. */
  #temporary: string | undefined;

  constructor(placement: Placement, options: LocalCopyOptions) {
    this.#placement = placement;
    this.#keepsOwners = options.archive && process.getuid?.() === 0;
    this.#signal = options.signal;
    const { directory } = placement;
    // The user's own path: links in it are the user's.
    const flags = O_PATH | constants.O_DIRECTORY;
    this.#open.push({ name: "", descriptor: attempt(latin1Of(directory), () => openSync(directory, flags)) });
  }

  result(): LocalCopy {
    return { bytes: this.#bytes, leftOut: this.#leftOut, leftOutCount: this.#leftOutCount };
  }

  async make({ entry: given, data }: TarContent): Promise<void> {
    const path = this.#placed(given.path);
    // The contents of a directory go into one that is there, and stays as it is.
    if (path === "") return;
    const entry = { ...given, path };
    // Before the entry's own directory is entered, which closes others.
    const target = entry.type === "link" ? this.#holdTarget(entry) : undefined;
    try {
      await this.#makeIn(this.#enter(directoryOf(path)), entry, { data, target });
    } finally {
      if (target !== undefined) closeSync(target);
    }
  }

  async #makeIn(
    parent: string,
    entry: TarEntry,
    from: { data: TarContent["data"]; target: number | undefined },
  ): Promise<void> {
    const { path } = entry;
    const name = `${parent}/${nameOf(path)}`;
    const existing = attempt(path, () => lstatSync(bytesOf(name), { throwIfNoEntry: false }));
    this.#refuseMixing(entry, existing);
    switch (entry.type) {
      case "directory":
        if (existing === undefined) attempt(path, () => mkdirSync(bytesOf(name), { mode: 0o700 }));
        this.#made.addDirectory(path, entry);
        return;
      case "character-device":
      case "block-device":
        if (this.#leftOutCount++ < NAMED_DEVICES) this.#leftOut.push(shown(path));
        return;
      default:
        await this.#replace(entry, { parent, name, ...from });
    }
  }

  /** Sets what would have stood in the way, or would have changed again, had it been set before. */
  finish(): void {
    for (const [path, attributes] of this.#made.directoriesInsideFirst()) {
      const name = `${this.#enter(directoryOf(path))}/${nameOf(path)}`;
      const descriptor = attempt(path, () => openSync(bytesOf(name), DIRECTORY));
      try {
        // A descriptor that only names takes no fchmod(2): its place in /proc leads to the same directory.
        const own = descriptorPath(descriptor);
        attempt(path, () => {
          if (this.#keepsOwners) chownSync(own, attributes.uid, attributes.gid);
          chmodSync(own, this.#modeOf(attributes));
          utimesSync(own, timeOf(attributes), timeOf(attributes));
        });
      } finally {
        closeSync(descriptor);
      }
    }
  }

  #placed(path: string): string {
    const { name } = this.#placement;
    if (name === undefined) return path;
    const first = latin1Of(name);
    return path === "" ? first : `${first}/${path}`;
  }

  /** The directory at `path`, as a path that leads to it whatever becomes of its name. */
  #enter(path: string): string {
    const names = path === "" ? [] : path.split("/");
    let depth = 0;
    while (depth < names.length && this.#open[depth + 1]?.name === names[depth]) depth++;
    for (const { descriptor } of this.#open.splice(depth + 1)) closeSync(descriptor);
    for (const name of names.slice(depth)) {
      const full = `${this.#directory()}/${name}`;
      const descriptor = attempt(path, () => openSync(bytesOf(full), DIRECTORY));
      this.#open.push({ name, descriptor });
    }
    return this.#directory();
  }

  #directory(): string {
    const last = this.#open.at(-1);
    if (last === undefined) throw new Error("the first directory is open as long as the copy");
    return descriptorPath(last.descriptor);
  }

  #refuseMixing(entry: TarEntry, existing: Stats | undefined): void {
    if (existing === undefined || existing.isDirectory() === (entry.type === "directory")) return;
    const [what, by] = existing.isDirectory()
      ? ["a directory", "a non-directory"]
      : ["a non-directory", "a directory"];
    throw new FirectlError("WRONG_STATE", `${shown(entry.path)}: cannot overwrite ${what} with ${by}`);
  }

  /** Makes it under another name and then gives it its own. */
  async #replace(
    entry: TarEntry,
    how: { parent: string; name: string; data: TarContent["data"]; target: number | undefined },
  ): Promise<void> {
    const temporary = `${how.parent}/.firectl-cp-${crypto.randomUUID()}`;
    this.#temporary = temporary;
    try {
      switch (entry.type) {
        case "file":
          await this.#file(entry, temporary, how.data);
          break;
        case "symlink":
          attempt(entry.path, () => {
            symlinkSync(bytesOf(entry.linkPath), temporary);
            if (this.#keepsOwners) lchownSync(temporary, entry.uid, entry.gid);
            lutimesSync(temporary, timeOf(entry), timeOf(entry));
          });
          break;
        case "link": {
          const { target } = how;
          if (target === undefined) throw new Error("a hard link is made with its target's directory open");
          const linked = bytesOf(`${descriptorPath(target)}/${nameOf(this.#placed(entry.linkPath))}`);
          attempt(entry.path, () => linkSync(linked, temporary));
          break;
        }
        default:
          await this.#fifo(entry, temporary);
      }
      attempt(entry.path, () => renameSync(temporary, bytesOf(how.name)));
    } finally {
      // Still there after a failure, or when both names were of one file already.
      rmSync(temporary, { force: true });
      this.#temporary = undefined;
    }
  }

  async #file(entry: TarEntry, temporary: string, data: TarContent["data"]): Promise<void> {
    const descriptor = attempt(entry.path, () => openSync(temporary, NEW_FILE, 0o600));
    try {
      const segments = entry.sparse ?? [{ offset: 0, length: entry.size }];
      let index = 0;
      let within = 0;
      for await (const piece of data ?? []) {
        this.#signal?.throwIfAborted();
        for (let at = 0; at < piece.length; ) {
          const segment = segments[index];
          if (segment === undefined) throw new Error("a copy has more data than its entry says");
          const length = Math.min(piece.length - at, segment.length - within);
          attempt(entry.path, () =>
            writeAll(descriptor, piece.subarray(at, at + length), segment.offset + within),
          );
          at += length;
          within += length;
          if (within === segment.length) {
            index++;
            within = 0;
          }
        }
        this.#bytes += piece.length;
      }
      attempt(entry.path, () => {
        ftruncateSync(descriptor, entry.size);
        if (this.#keepsOwners) fchownSync(descriptor, entry.uid, entry.gid);
        fchmodSync(descriptor, this.#modeOf(entry));
        futimesSync(descriptor, timeOf(entry), timeOf(entry));
      });
    } finally {
      closeSync(descriptor);
    }
    this.#made.addFile(entry.path);
  }

  /** The directory of a link's target. Only what this copy has made gets another name: all else is the user's. */
  #holdTarget(entry: TarEntry): number {
    const target = this.#placed(entry.linkPath);
    if (!this.#made.hasFile(target)) {
      throw new FirectlError(
        "AGENT_FAILED",
        `${shown(entry.path)} is a link to ${shown(target)}, which the copy has not`,
      );
    }
    const directory = this.#enter(directoryOf(target));
    return attempt(target, () => openSync(directory, O_PATH | constants.O_DIRECTORY));
  }

  /** Node has no mkfifo(3). */
  async #fifo(entry: TarEntry, temporary: string): Promise<void> {
    const reachable = temporary.replace("/self/", `/${process.pid}/`);
    await runProgram("mkfifo", ["-m", "600", reachable]);
    attempt(entry.path, () => {
      // The name is random and the directory ours by descriptor, yet a link in its place must not be followed.
      const descriptor = openSync(temporary, O_PATH | constants.O_NOFOLLOW);
      try {
        const own = descriptorPath(descriptor);
        if (this.#keepsOwners) chownSync(own, entry.uid, entry.gid);
        chmodSync(own, this.#modeOf(entry));
        utimesSync(own, timeOf(entry), timeOf(entry));
      } finally {
        closeSync(descriptor);
      }
    });
  }

  /** A program that a guest wrote runs with nobody else's rights unless root has asked for exactly that. */
  #modeOf({ mode }: DirectoryAttributes): number {
    return this.#keepsOwners ? mode : mode & (PERMISSIONS | 0o1000);
  }

  [Symbol.dispose](): void {
    if (this.#temporary !== undefined) rmSync(this.#temporary, { force: true });
    for (const { descriptor } of this.#open.splice(0)) closeSync(descriptor);
  }
}

function writeAll(descriptor: number, data: Uint8Array, position: number): void {
  for (let at = 0; at < data.length; ) {
    at += writeSync(descriptor, data, at, data.length - at, position + at);
  }
}

/** Seconds; the fraction is true to the microsecond. */
function timeOf({ mtimeSec, mtimeNsec }: DirectoryAttributes): number {
  return mtimeSec + mtimeNsec / 1e9;
}

function directoryOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Paths are kept as bytes in latin1 strings, as in tar entries. */
function latin1Of(path: string): string {
  return Buffer.from(path, "utf8").toString("latin1");
}

function bytesOf(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

function shown(path: string): string {
  return Buffer.from(path, "latin1").toString("utf8");
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw ioError(`cannot copy to ${shown(path)}`, error);
  }
}
