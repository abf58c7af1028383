import { BLOCK, cString, type Header, isZeroBlock, number, parseHeader, TarError } from "./header.ts";
import { layerError } from "./layer-error.ts";
import { type PaxAttributes, parsePax, type SparseSegment, type Xattr } from "./pax.ts";
import { readOldPairs, SparseMapReader, sparseSegments } from "./sparse.ts";

/** What an entry is; "link" is a hard link to an earlier name. */
export type EntryType =
  | "file"
  | "directory"
  | "symlink"
  | "link"
  | "character-device"
  | "block-device"
  | "fifo";

/** One entry with everything its headers say put together; names are bytes in latin1 strings. */
export interface TarEntry {
  readonly path: string;
  readonly type: EntryType;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Size of the file in bytes, holes included. */
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Access time where the archive gives one, else the modification time. */
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly linkPath: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: readonly Xattr[] | undefined;
  /** Where the data lies in a sparse file; undefined for a plain one. */
  readonly sparse: readonly SparseSegment[] | undefined;
}

/** The fields that only some kinds of entries have, as the others have them. */
export const BARE_ENTRY = {
  size: 0,
  linkPath: "",
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
  sparse: undefined,
} as const satisfies Partial<TarEntry>;

/** Takes what a {@link TarReader} finds, in order: entry, then data and end if the entry was wanted. */
export interface TarSink {
  /** Returns whether the entry's data is wanted. */
  entry(entry: TarEntry): boolean;
  /** A piece of the data, valid only during the call. */
  data(bytes: Buffer): void;
  end(): void;
  /** Told of an ACL, given as text, that the coming entry has to do without. */
  aclPassedOver?(entryPath: string, problem: string): void;
}

/** Largest PAX header, long name or long link, in bytes; Go's archive/tar, hence Docker, has the same. */
export const MAX_META_BYTES: number = 1 << 20;

/** Largest PAX headers of one entry together, in bytes: each may be small, and all of them too much to hold. */
const MAX_PAX_BYTES: number = 8 * MAX_META_BYTES;

const NO_ATTRIBUTES: PaxAttributes = {};

/** What the bytes to come are. */
type Expect = "header" | "meta" | "sparse-extension" | "sparse-map" | "data" | "padding" | "rest";

const TYPES: Readonly<Record<string, EntryType>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  S: "file",
  "1": "link",
  "2": "symlink",
  "3": "character-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
};

/** Makes the error that a reader throws, of the entry at fault and what is wrong with it. */
export type OnFailure = (entry: string | undefined, problem: string, cause: TarError) => Error;

/**
 * A tar parser that is pushed into: no promise, copy or object per piece of data, so that its cost is the
 * headers' alone. Reads V7, ustar, PAX and GNU archives. Everything wrong is a LAYER_INVALID naming the layer.
 * Global PAX headers are passed over, as Docker and containerd do: a layer means here what it means to them.
 */
export class TarReader {
  readonly #fail: OnFailure;
  readonly #sink: TarSink;
  #expect: Expect = "header";
  /** Bytes still to come of the data or padding. */
  #left = 0;
  #padding = 0;
  #wanted = false;
  #zeroBlocks = 0;
  /** A block of which the previous chunk had only the head. */
  readonly #partial: Buffer = Buffer.allocUnsafe(BLOCK);
  #partialLength = 0;
  /** The body of a PAX, long-name or long-link header, and the type it belongs to. */
  #meta: Buffer = Buffer.alloc(0);
  #metaLength = 0;
  #metaType = 0;
  #locals: PaxAttributes | undefined;
  /** What the headers took that `#locals` comes from. */
  #paxBytes = 0;
  #longName: string | undefined;
  #longLink: string | undefined;
  /** The header whose sparse map is being read, and the map so far. */
  #sparseHeader: Header | undefined;
  #sparseMap: number[] = [];
  #sparseRealSize = 0;
  #mapReader = new SparseMapReader();
  #entryPath: string | undefined;

  /** @param fail Makes the error for an archive that is no layer; one that names `layer` when absent. */
  constructor(layer: string, sink: TarSink, fail?: OnFailure) {
    this.#sink = sink;
    this.#fail = fail ?? ((entry, problem) => layerError(layer, entry, problem));
  }

  /** How many of the bytes to come mean nothing: whoever reads a file may seek over them, and say so. */
  get idle(): number {
    switch (this.#expect) {
      case "data":
        return this.#wanted ? 0 : this.#left;
      case "padding":
        return this.#left;
      case "rest":
        return Number.MAX_SAFE_INTEGER;
      default:
        return 0;
    }
  }

  /** Says that so many bytes have been passed over, at most {@link idle}. */
  passOver(bytes: number): void {
    if (this.#expect === "rest") return;
    this.#left -= bytes;
    if (this.#left > 0) return;
    if (this.#expect === "data") this.#endData();
    else this.#expect = "header";
  }

  /** Takes the next bytes of the archive. */
  push(chunk: Buffer): void {
    try {
      let at = 0;
      while (at < chunk.length) at = this.#step(chunk, at);
    } catch (error) {
      throw this.#named(error);
    }
  }

  /** Says that the archive has ended; it may do so only between two entries. */
  finish(): void {
    const between = (this.#expect === "header" && this.#partialLength === 0) || this.#expect === "rest";
    if (between && this.#locals === undefined && this.#longName === undefined) return;
    throw this.#named(new TarError("the archive ends in the middle of an entry"));
  }

  #named(error: unknown): unknown {
    return error instanceof TarError ? this.#fail(this.#entryPath, error.message, error) : error;
  }

  /** Consumes something of `chunk` from `at` on and returns where it stopped. */
  #step(chunk: Buffer, at: number): number {
    switch (this.#expect) {
      case "data": {
        const end = Math.min(chunk.length, at + this.#left);
        if (this.#wanted) this.#sink.data(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
        this.#left -= end - at;
        if (this.#left === 0) this.#endData();
        return end;
      }
      case "padding": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#expect = "header";
        return end;
      }
      case "meta":
        return this.#gatherMeta(chunk, at);
      case "rest":
        return chunk.length;
      default:
        return this.#gatherBlock(chunk, at);
    }
  }

  #gatherBlock(chunk: Buffer, at: number): number {
    if (this.#partialLength === 0 && chunk.length - at >= BLOCK) {
      this.#block(chunk, at);
      return at + BLOCK;
    }
    const end = Math.min(chunk.length, at + BLOCK - this.#partialLength);
    chunk.copy(this.#partial, this.#partialLength, at, end);
    this.#partialLength += end - at;
    if (this.#partialLength === BLOCK) {
      this.#partialLength = 0;
      this.#block(this.#partial, 0);
    }
    return end;
  }

  #block(bytes: Buffer, at: number): void {
    if (this.#expect === "sparse-extension") this.#sparseExtension(bytes, at);
    else if (this.#expect === "sparse-map") this.#sparseMapBlock(bytes.subarray(at, at + BLOCK));
    else this.#header(bytes, at);
  }

  #header(bytes: Buffer, at: number): void {
    if (isZeroBlock(bytes, at)) {
      this.#zeroBlocks++;
      if (this.#zeroBlocks === 2) this.#expect = "rest";
      return;
    }
    if (this.#zeroBlocks === 1) throw new TarError("a lone zero block stands between two entries");
    const header = parseHeader(bytes, at);
    if (header.size < 0) throw new TarError(`the size is negative: ${header.size}`);
    switch (header.type) {
      case 0x78: // x, PAX for the next entry
      case 0x58: // X, Solaris' name for the same
      case 0x4c: // L, GNU long name
      case 0x4b: // K, GNU long link
        this.#beginMeta(header);
        return;
      case 0x67: // g, PAX for all that follow
        // To Go's reader, hence Docker's, it is an entry of its own, which takes what came before it.
        this.#forgetMeta();
        this.#entryPath = undefined;
        this.#skip(header.size);
        return;
      case 0x56: // V, GNU volume label: a name for the archive, not an entry
        this.#skip(header.size);
        return;
      default:
        this.#beginEntry(header, bytes, at);
    }
  }

  #beginMeta(header: Header): void {
    if (header.size > MAX_META_BYTES) {
      throw new TarError(`an extended header of ${header.size} bytes; at most ${MAX_META_BYTES} are read`);
    }
    this.#meta = Buffer.allocUnsafe(header.size);
    this.#metaLength = 0;
    this.#metaType = header.type;
    this.#padding = paddingOf(header.size);
    this.#expect = "meta";
    if (header.size === 0) this.#endMeta();
  }

  #gatherMeta(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#meta.length - this.#metaLength);
    chunk.copy(this.#meta, this.#metaLength, at, end);
    this.#metaLength += end - at;
    if (this.#metaLength === this.#meta.length) this.#endMeta();
    return end;
  }

  /**
   * A PAX header may be followed by L and K ones of the same entry, and they by it: each only adds to what is
   * known, and the next real header takes it all.
   */
  #endMeta(): void {
    switch (this.#metaType) {
      case 0x4c:
        this.#longName = cString(this.#meta, 0, this.#meta.length);
        this.#entryPath = this.#longName;
        break;
      case 0x4b:
        this.#longLink = cString(this.#meta, 0, this.#meta.length);
        break;
      default:
        this.#paxBytes += this.#meta.length;
        if (this.#paxBytes > MAX_PAX_BYTES) {
          throw new TarError(
            `extended headers of one entry take ${this.#paxBytes} bytes, at most ${MAX_PAX_BYTES} are read`,
          );
        }
        this.#locals ??= {};
        parsePax(this.#meta, this.#locals);
        this.#entryPath = this.#locals.path ?? this.#entryPath;
    }
    this.#meta = Buffer.alloc(0);
    this.#skip(-this.#padding);
  }

  /** What extended headers have said is for no later entry. */
  #forgetMeta(): void {
    this.#locals = undefined;
    this.#paxBytes = 0;
    this.#longName = undefined;
    this.#longLink = undefined;
  }

  /** Passes over `size` bytes and their padding; a negative size is the number of padding bytes alone. */
  #skip(size: number): void {
    this.#left = size < 0 ? -size : size + paddingOf(size);
    this.#expect = this.#left === 0 ? "header" : "padding";
  }

  #beginEntry(header: Header, bytes: Buffer, at: number): void {
    const pax = this.#locals ?? NO_ATTRIBUTES;
    if (this.#longName !== undefined) header.name = this.#longName;
    if (this.#longLink !== undefined) header.linkName = this.#longLink;
    header.name = pax.sparse?.name ?? pax.path ?? header.name;
    header.linkName = pax.linkPath ?? header.linkName;
    header.size = pax.size ?? header.size;
    this.#entryPath = header.name;

    if (header.type === 0x53 && header.gnu) {
      this.#sparseMap = [];
      this.#sparseHeader = header;
      readOldPairs(bytes, at + 386, 4, this.#sparseMap);
      this.#sparseRealSize = pax.sparse?.realSize ?? number(bytes, at + 483, 12, "realsize");
      if (bytes[at + 482] === 0) this.#emitSparse(header);
      else this.#expect = "sparse-extension";
      return;
    }
    const sparse = this.#locals?.sparse;
    if (sparse === undefined) {
      this.#emit(header, undefined, header.size);
      return;
    }
    this.#sparseRealSize = sparse.realSize ?? header.size;
    if (sparse.major === 1 && sparse.minor === 0) {
      this.#sparseHeader = header;
      this.#mapReader = new SparseMapReader();
      this.#expect = "sparse-map";
      return;
    }
    if ((sparse.major ?? 0) !== 0) throw new TarError(`sparse format ${sparse.major}.${sparse.minor ?? 0}`);
    this.#sparseMap = sparse.map;
    this.#emitSparse(header);
  }

  #sparseExtension(bytes: Buffer, at: number): void {
    readOldPairs(bytes, at, 21, this.#sparseMap);
    if (bytes[at + 504] === 0 && this.#sparseHeader !== undefined) this.#emitSparse(this.#sparseHeader);
  }

  /** The map of format 1.0 counts as data: what it takes is no part of the file. */
  #sparseMapBlock(block: Buffer): void {
    const header = this.#sparseHeader;
    if (header === undefined) throw new Error("a sparse map is read only after its header");
    if (header.size < BLOCK) throw new TarError("sparse map is longer than the entry");
    header.size -= BLOCK;
    const map = this.#mapReader.push(block);
    if (map === undefined) return;
    this.#sparseMap = map;
    this.#emitSparse(header);
  }

  #emitSparse(header: Header): void {
    this.#sparseHeader = undefined;
    const segments = sparseSegments(this.#sparseMap, this.#sparseRealSize, header.size);
    this.#emit(header, segments, this.#sparseRealSize);
  }

  #emit(header: Header, sparse: readonly SparseSegment[] | undefined, fileSize: number): void {
    const pax = this.#locals ?? NO_ATTRIBUTES;
    let type = TYPES[String.fromCharCode(header.type)];
    if (type === undefined) {
      throw new TarError(`entries of type ${JSON.stringify(String.fromCharCode(header.type))} are not known`);
    }
    // V7 has no type for directories, only a slash at the end of the name.
    if (header.type === 0 && header.name.endsWith("/")) type = "directory";
    if (header.name.includes("\0") || header.linkName.includes("\0")) throw new TarError("a NUL in a name");
    const mtimeSec = pax.mtime?.sec ?? header.mtime;
    const mtimeNsec = pax.mtime?.nsec ?? 0;
    // Only files have data: links may carry the target's size without its bytes (as Go's reader holds it).
    const stored = type === "file" ? header.size : 0;
    this.#forgetMeta();
    const xattrs = xattrList(pax, (problem) => this.#sink.aclPassedOver?.(header.name, problem));
    this.#wanted = this.#sink.entry({
      path: header.name,
      type,
      mode: header.mode & 0o7777,
      uid: pax.uid ?? header.uid,
      gid: pax.gid ?? header.gid,
      size: type === "file" ? fileSize : 0,
      mtimeSec,
      mtimeNsec,
      atimeSec: pax.atime?.sec ?? mtimeSec,
      atimeNsec: pax.atime?.nsec ?? mtimeNsec,
      linkPath: header.linkName,
      devMajor: header.devMajor,
      devMinor: header.devMinor,
      xattrs,
      sparse,
    });
    this.#left = stored;
    this.#padding = paddingOf(stored);
    this.#expect = "data";
    if (stored === 0) this.#endData();
  }

  #endData(): void {
    if (this.#wanted) this.#sink.end();
    this.#entryPath = undefined;
    this.#skip(-this.#padding);
  }
}

function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** The attributes of an entry, and those that hold the ACLs which it gives as text alone. */
function xattrList(
  { xattrs, acls }: PaxAttributes,
  onAclPassedOver: (problem: string) => void,
): Xattr[] | undefined {
  if (xattrs === undefined && acls === undefined) return undefined;
  const list = Array.from(xattrs ?? [], ([name, value]) => ({ name, value }));
  for (const [name, { value, problem }] of acls ?? []) {
    if (xattrs?.has(name) === true) continue;
    if (problem !== undefined) onAclPassedOver(problem);
    if (value !== undefined) list.push({ name, value });
  }
  return list.length === 0 ? undefined : list;
}
