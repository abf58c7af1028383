import type { Xattr } from "../../tar/pax.ts";
import { ByteArena } from "./byte-arena.ts";
import {
  encodeDevice,
  MODE_BLOCK_DEVICE,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_SYMLINK,
  MODE_TYPE,
  timeExtra,
} from "./format.ts";
import { RecordTable } from "./record-table.ts";
import { type XattrSetId, XattrSets } from "./xattr-sets.ts";

/*
 * What the files of a filesystem are, apart from their names: records of words, times and devices in ext4's own
 * form already.
 *
 *   0 mode 16, size's high 16 | 1 uid | 2 gid | 3 atime | 4 atime's extra | 5 mtime | 6 mtime's extra
 *   7 size's low 32; a symlink: length of its target; a device: its number in the new form
 *   8 a file: first block; a symlink: address of its target; a device: its number in the old form
 *     a directory: what tree.ts keeps of it
 *   9 attribute set | 10 number | 11 links
 */
const MODE = 0;
const UID = 1;
const GID = 2;
const ATIME = 3;
const ATIME_EXTRA = 4;
const MTIME = 5;
const MTIME_EXTRA = 6;
const SIZE = 7;
const BLOCK = 8;
const XATTRS = 9;
const NUMBER = 10;
const LINKS = 11;
const INODE_WORDS = 12;

declare const brand: unique symbol;
/** Names an inode of an {@link InodeTable}; it is not its number in the filesystem. */
export type InodeId = number & { readonly [brand]: "InodeId" };

/** A stretch of blocks: of a file (`logical` is where in the file) or of free space (`logical` unused). */
export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
}

/** What an inode is made of. */
export interface NewInode {
  /** Type and permissions as in i_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Bytes of a file; what a directory or symlink takes is planned. */
  readonly size?: number;
  /** Target of a symlink as bytes in a latin1 string. */
  readonly target?: string;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly xattrs?: readonly Xattr[] | undefined;
}

/** An inode's owner and times as ext4 has them. */
export interface InodeAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly atime: number;
  readonly atimeExtra: number;
  readonly mtime: number;
  readonly mtimeExtra: number;
}

/** A directory of root's, to be made an inode of. */
export function newDirectory(
  permissions: number,
  options: { timeSec?: number; timeNsec?: number } = {},
): NewInode {
  const sec = options.timeSec ?? 0;
  const nsec = options.timeNsec ?? 0;
  return {
    mode: MODE_DIRECTORY | permissions,
    uid: 0,
    gid: 0,
    atimeSec: sec,
    atimeNsec: nsec,
    mtimeSec: sec,
    mtimeNsec: nsec,
  };
}

/** The inodes of a filesystem under construction. */
export class InodeTable {
  readonly xattrSets: XattrSets = new XattrSets();
  readonly #table: RecordTable = new RecordTable(INODE_WORDS);
  readonly #targets: ByteArena = new ByteArena();
  /** Where the data lies of files with holes, which are few. */
  readonly #runs: Map<InodeId, readonly Run[]> = new Map();

  /** @throws XattrError for attributes that ext4 cannot hold. */
  add(inode: NewInode): InodeId {
    const table = this.#table;
    const xattrs = inode.xattrs === undefined ? 0 : this.xattrSets.add(inode.xattrs);
    // The one place where a record's number becomes an inode's name.
    const id = table.add() as InodeId;
    const size = inode.size ?? 0;
    table.set(id, MODE, inode.mode | (Math.floor(size / 2 ** 32) << 16));
    table.set(id, UID, inode.uid);
    table.set(id, GID, inode.gid);
    table.set(id, ATIME, inode.atimeSec);
    table.set(id, ATIME_EXTRA, timeExtra(inode.atimeSec, inode.atimeNsec));
    table.set(id, MTIME, inode.mtimeSec);
    table.set(id, MTIME_EXTRA, timeExtra(inode.mtimeSec, inode.mtimeNsec));
    table.set(id, SIZE, size);
    table.set(id, XATTRS, xattrs);
    const type = inode.mode & MODE_TYPE;
    if (type === MODE_SYMLINK) {
      const target = inode.target ?? "";
      table.set(id, SIZE, target.length);
      table.set(id, BLOCK, this.#targets.addText(target));
    } else if (type === MODE_CHARACTER_DEVICE || type === MODE_BLOCK_DEVICE) {
      const [old, extended] = encodeDevice(inode.devMajor ?? 0, inode.devMinor ?? 0);
      table.set(id, BLOCK, old);
      table.set(id, SIZE, extended);
    }
    return id;
  }

  /** Type and permissions as in i_mode. */
  mode(id: InodeId): number {
    return this.#table.get(id, MODE) & 0xffff;
  }

  attributes(id: InodeId): InodeAttributes {
    const table = this.#table;
    return {
      mode: this.mode(id),
      uid: table.get(id, UID),
      gid: table.get(id, GID),
      atime: table.get(id, ATIME),
      atimeExtra: table.get(id, ATIME_EXTRA),
      mtime: table.get(id, MTIME),
      mtimeExtra: table.get(id, MTIME_EXTRA),
    };
  }

  isDirectory(id: InodeId): boolean {
    return (this.#table.get(id, MODE) & MODE_TYPE) === MODE_DIRECTORY;
  }

  isSymlink(id: InodeId): boolean {
    return (this.#table.get(id, MODE) & MODE_TYPE) === MODE_SYMLINK;
  }

  /** Bytes of a file, or of a symlink's target. */
  size(id: InodeId): number {
    return (this.#table.get(id, MODE) >>> 16) * 2 ** 32 + this.#table.get(id, SIZE);
  }

  /** Target of a symlink as bytes in a latin1 string. */
  target(id: InodeId): string {
    return this.#targets.text(this.#table.get(id, BLOCK), this.#table.get(id, SIZE));
  }

  /** First words of a device's i_block. */
  device(id: InodeId): readonly [number, number] {
    return [this.#table.get(id, BLOCK), this.#table.get(id, SIZE)];
  }

  /** First block of a file's data, 0 when it has none; its blocks follow one another unless it has {@link runs}. */
  block(id: InodeId): number {
    return this.#table.get(id, BLOCK);
  }

  setBlock(id: InodeId, block: number): void {
    this.#table.set(id, BLOCK, block);
  }

  /** Where the data lies of a file with holes. */
  runs(id: InodeId): readonly Run[] | undefined {
    return this.#runs.size === 0 ? undefined : this.#runs.get(id);
  }

  setRuns(id: InodeId, runs: readonly Run[]): void {
    this.#runs.set(id, runs);
  }

  xattrs(id: InodeId): XattrSetId | undefined {
    const set = this.#table.get(id, XATTRS);
    // What add() has put there.
    return set === 0 ? undefined : (set as XattrSetId);
  }

  /** Number in the filesystem, 0 for an inode that is no part of it. */
  number(id: InodeId): number {
    return this.#table.get(id, NUMBER);
  }

  setNumber(id: InodeId, number: number): void {
    this.#table.set(id, NUMBER, number);
  }

  /** Names that lead to it, or 2 plus the subdirectories. */
  links(id: InodeId): number {
    return this.#table.get(id, LINKS);
  }

  setLinks(id: InodeId, links: number): void {
    this.#table.set(id, LINKS, links);
  }
}
