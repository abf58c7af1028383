import type { Digest } from "../../core/brands.ts";
import { FirectlError } from "../../core/errors.ts";
import { NoHeaderError, type TarError } from "../../tar/header.ts";
import type { TarEntry } from "../../tar/reader.ts";

/** Far more than the largest archives have; each costs some 300 bytes of memory. */
const MAX_MEMBERS = 200_000;
/** PATH_MAX: longer ones nobody could unpack. */
const MAX_NAME_BYTES = 4096;
/** As many as the kernel follows. */
const MAX_LINKS = 40;
/** Longest piece of a name that a message quotes. */
const QUOTED_NAME = 200;

const WHAT_IS_READ =
  "an archive of images is what docker save, podman save or firectl save writes, plain or compressed by gzip, zstd, xz or bzip2; for the tar of a root filesystem there is firectl import";

/** A file in an archive. */
export interface ArchiveFile {
  /** Without a leading `./`, as bytes in a latin1 string. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Known when the file has been read already and lies in the store under that digest. */
  readonly digest: Digest | undefined;
  /** Its bytes from `offset` on. */
  read(options: { offset: number; signal?: AbortSignal | undefined }): AsyncIterable<Uint8Array>;
}

/** Where the bytes of a member are. */
export type MemberContent = Pick<ArchiveFile, "digest" | "read">;

/** The members of a tar that has images in it, to be looked up by name in any order. */
export class Archive {
  /** How messages name it. */
  readonly label: string;
  readonly #files = new Map<string, ArchiveFile>();
  readonly #links = new Map<string, string>();
  #count = 0;

  constructor(label: string) {
    this.label = label;
  }

  /**
   * Takes note of a member. Directories need none, and what else there may be is not looked at.
   * @throws FirectlError ARCHIVE_INVALID for a name that leaves the archive or that was there before.
   */
  add(entry: TarEntry, content: MemberContent | undefined): void {
    this.#count += 1;
    if (this.#count > MAX_MEMBERS) throw this.invalid(entry.path, `more than ${MAX_MEMBERS} members`);
    if (entry.path.length > MAX_NAME_BYTES || entry.linkPath.length > MAX_NAME_BYTES) {
      throw this.invalid(entry.path, `a name of more than ${MAX_NAME_BYTES} bytes`);
    }
    const name = resolveName("", entry.path);
    if (name === undefined) throw this.invalid(entry.path, "its name leads out of the archive");
    if (entry.type !== "file" && entry.type !== "symlink" && entry.type !== "link") return;
    if (this.#files.has(name) || this.#links.has(name)) throw this.invalid(name, "it is there twice");
    if (entry.type === "symlink") {
      // A link out of the archive is an error only when someone follows it.
      this.#links.set(name, resolveName(parentOf(name), entry.linkPath) ?? "");
    } else if (entry.type === "link") {
      this.#links.set(name, resolveName("", entry.linkPath) ?? "");
    } else if (content !== undefined) {
      if (entry.sparse !== undefined) throw this.invalid(name, "it is stored as a sparse file");
      this.#files.set(name, { name, size: entry.size, ...content });
    }
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /**
   * The file of that name, links within the archive followed; undefined when there is none.
   * @throws FirectlError ARCHIVE_INVALID for links that lead in a circle.
   */
  find(name: string): ArchiveFile | undefined {
    let at = resolveName("", name);
    for (let step = 0; step <= MAX_LINKS; step++) {
      if (at === undefined || at === "") return undefined;
      const file = this.#files.get(at);
      if (file !== undefined) return file;
      at = this.#links.get(at) ?? this.#throughDirectory(at);
    }
    throw this.invalid(name, "its links lead in a circle");
  }

  /**
   * The file of that name.
   * @throws FirectlError ARCHIVE_INVALID when it is not there.
   */
  require(name: string): ArchiveFile {
    const file = this.find(name);
    if (file === undefined) throw this.invalid(name, "it is not there");
    return file;
  }

  /**
   * The bytes of a small file.
   * @throws FirectlError ARCHIVE_INVALID when it is not there or has more than `maxBytes`.
   */
  async document(name: string, maxBytes: number): Promise<Uint8Array> {
    const file = this.require(name);
    if (file.size > maxBytes) {
      throw this.invalid(name, `it has ${file.size} bytes, at most ${maxBytes} are read`);
    }
    const parts: Uint8Array[] = [];
    for await (const part of file.read({ offset: 0 })) parts.push(part);
    return Buffer.concat(parts);
  }

  /** How messages name a member: `archive FILE, member "NAME"`. */
  what(member: string): string {
    return `archive ${this.label}, member "${printable(member)}"`;
  }

  invalid(member: string | undefined, problem: string): FirectlError {
    const where = member === undefined ? `archive ${this.label}` : this.what(member);
    return new FirectlError("ARCHIVE_INVALID", `${where}: ${problem}`);
  }

  /** What the tar reader says, which before the first member means that there is no tar. */
  unreadable(member: string | undefined, cause: TarError): FirectlError {
    if (!this.isEmpty) return this.invalid(member, cause.message);
    const why = cause instanceof NoHeaderError ? "it does not begin with a tar header" : cause.message;
    return new FirectlError("ARCHIVE_INVALID", `${this.label} is not a tar archive: ${why}`, {
      hint: WHAT_IS_READ,
    });
  }

  /** The failure of an archive without any member. */
  empty(): FirectlError {
    return new FirectlError("ARCHIVE_INVALID", `archive ${this.label}: it is empty`, { hint: WHAT_IS_READ });
  }

  /** The name with the first of its directories that is a link replaced by where that leads. */
  #throughDirectory(name: string): string | undefined {
    for (let slash = name.indexOf("/"); slash !== -1; slash = name.indexOf("/", slash + 1)) {
      const target = this.#links.get(name.slice(0, slash));
      if (target !== undefined) return target === "" ? undefined : `${target}${name.slice(slash)}`;
    }
    return undefined;
  }
}

/** `path` seen from `directory`, without `.` and `..`; undefined when it leads above the archive's root. */
function resolveName(directory: string, path: string): string | undefined {
  if (path.startsWith("/") && directory !== "") return undefined;
  const parts = directory === "" ? [] : directory.split("/");
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join("/");
}

function parentOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf("/")));
}

function printable(name: string): string {
  const text = Buffer.from(name, "latin1").toString("utf8");
  const safe = text.replaceAll(/\p{Cc}|\p{Cf}/gu, "\u{fffd}");
  return safe.length > QUOTED_NAME ? `${safe.slice(0, QUOTED_NAME)}…` : safe;
}
