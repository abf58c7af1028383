import type { Xattr } from "../../tar/pax.ts";
import { MODE_DIRECTORY, MODE_TYPE } from "./format.ts";

/** A stretch of blocks: of a file (`logical` is where in the file) or of free space (`logical` unused). */
export interface Run {
  readonly logical: number;
  readonly physical: number;
  readonly length: number;
}

/** What one file of the filesystem is, apart from its names. */
export interface Inode {
  /** Type and permissions as in i_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Target of a symlink as bytes in a latin1 string. */
  readonly target: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: readonly Xattr[] | undefined;
  /** Bytes of a file; what a directory or symlink takes is planned. */
  readonly size: number;
  /** First block of a file's data, 0 when it has none; its blocks follow one another unless `runs` says other. */
  block: number;
  /** Where the data lies of a file with holes. */
  runs: readonly Run[] | undefined;
  /** Number in the filesystem, given by {@link numberInodes}. */
  number: number;
  /** Names that lead to it, or 2 plus the subdirectories; counted by {@link numberInodes}. */
  links: number;
}

/** A place in the tree; its name is the key in its parent's map, as bytes in a latin1 string. */
export interface TreeNode {
  readonly inode: Inode;
  /** A directory's entries in the order of its blocks; undefined for everything else. */
  readonly children: ReadonlyMap<string, TreeNode> | undefined;
}

/** A directory and where it hangs. */
interface PlacedDirectory {
  readonly node: TreeNode;
  readonly parent: Inode;
}

/** Inodes in the order of their numbers. */
export interface NumberedTree {
  /** Every inode but the root, from number `first` on. */
  readonly inodes: readonly Inode[];
  /** Every directory by its inode, the root among them. */
  readonly directories: ReadonlyMap<Inode, PlacedDirectory>;
}

const EMPTY: Pick<
  Inode,
  "target" | "devMajor" | "devMinor" | "xattrs" | "size" | "block" | "runs" | "number" | "links"
> = {
  target: "",
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
  size: 0,
  block: 0,
  runs: undefined,
  number: 0,
  links: 0,
};

/** A directory's inode. */
export function directoryInode(
  permissions: number,
  options: { timeSec?: number; timeNsec?: number } = {},
): Inode {
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
    ...EMPTY,
  };
}

export function isDirectory(inode: Inode): boolean {
  return (inode.mode & MODE_TYPE) === MODE_DIRECTORY;
}

/**
 * Numbers the inodes below `root`, `rootNumber` being the root's own, breadth first: a directory's files are
 * neighbours in the inode table. Counts links on the way.
 */
export function numberInodes(root: TreeNode, rootNumber: number, first: number): NumberedTree {
  const inodes: Inode[] = [];
  const directories = new Map<Inode, PlacedDirectory>([[root.inode, { node: root, parent: root.inode }]]);
  root.inode.number = rootNumber;
  root.inode.links = 2;
  // A map's iterator sees what is added while it runs: this is the queue.
  for (const { node: directory } of directories.values()) {
    for (const node of directory.children?.values() ?? []) {
      const { inode } = node;
      if (inode.number === 0) {
        inode.number = first + inodes.length;
        inodes.push(inode);
      }
      if (node.children === undefined) {
        inode.links++;
      } else {
        inode.links = 2;
        directory.inode.links++;
        directories.set(inode, { node, parent: directory.inode });
      }
    }
  }
  return { inodes, directories };
}
