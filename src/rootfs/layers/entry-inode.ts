import { layerError } from "../../tar/layer-error.ts";
import type { EntryType, TarEntry } from "../../tar/reader.ts";
import {
  MAX_FILE_BYTES,
  MAX_MAJOR,
  MAX_MINOR,
  MAX_TIME,
  MIN_TIME,
  MODE_BLOCK_DEVICE,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_FIFO,
  MODE_FILE,
  MODE_SYMLINK,
} from "../ext4/format.ts";
import type { InodeId, InodeTable, NewInode } from "../ext4/inodes.ts";
import { XattrError } from "../ext4/xattr.ts";
import { isOverlayNote } from "../overlay/overlay-xattrs.ts";

const TYPE_MODES: Readonly<Record<EntryType, number>> = {
  file: MODE_FILE,
  link: MODE_FILE,
  directory: MODE_DIRECTORY,
  symlink: MODE_SYMLINK,
  "character-device": MODE_CHARACTER_DEVICE,
  "block-device": MODE_BLOCK_DEVICE,
  fifo: MODE_FIFO,
};

/** Longest symlink target: PATH_MAX less its NUL. */
const MAX_TARGET_BYTES = 4095;

/**
 * Adds the inode that an entry of a layer describes, its data still to come. Notes of overlayfs's are left out: the
 * image is the lower layer of one, which would take them for its own, and follow a redirect or hide what is there.
 * @throws FirectlError LAYER_INVALID for what ext4 or the kernel cannot hold.
 */
export function addInode(table: InodeTable, entry: TarEntry, layer: string): InodeId {
  const problem = problemOf(entry);
  if (problem !== undefined) throw layerError(layer, entry.path, problem);
  try {
    const inode = newInode(entry);
    const hasNotes = inode.xattrs?.some(isOverlayNote) === true;
    return table.add(
      hasNotes ? { ...inode, xattrs: inode.xattrs?.filter((xattr) => !isOverlayNote(xattr)) } : inode,
    );
  } catch (error) {
    if (error instanceof XattrError) throw layerError(layer, entry.path, error.message);
    throw error;
  }
}

/** The inode of an entry that has no {@link problemOf}. */
export function newInode(entry: TarEntry): NewInode {
  return {
    mode: TYPE_MODES[entry.type] | entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    atimeSec: clampTime(entry.atimeSec),
    atimeNsec: entry.atimeNsec,
    mtimeSec: clampTime(entry.mtimeSec),
    mtimeNsec: entry.mtimeNsec,
    target: entry.type === "symlink" ? entry.linkPath : "",
    devMajor: entry.devMajor,
    devMinor: entry.devMinor,
    xattrs: entry.xattrs,
    size: entry.size,
  };
}

/** What ext4 or the kernel cannot hold of an entry. */
export function problemOf(entry: TarEntry): string | undefined {
  if (!isId(entry.uid) || !isId(entry.gid)) return `owner ${entry.uid}:${entry.gid}`;
  if (entry.size > MAX_FILE_BYTES) return `a file of ${entry.size} bytes, at most ${MAX_FILE_BYTES}`;
  if (entry.type === "symlink") {
    const length = entry.linkPath.length;
    if (length === 0) return "a symlink without a target";
    if (length > MAX_TARGET_BYTES) return `a symlink target of ${length} bytes, at most ${MAX_TARGET_BYTES}`;
  }
  if (!inRange(entry.devMajor, MAX_MAJOR) || !inRange(entry.devMinor, MAX_MINOR)) {
    return `device ${entry.devMajor}:${entry.devMinor}`;
  }
  return undefined;
}

function isId(id: number): boolean {
  // 2^32 - 1 is the kernel's "no id".
  return inRange(id, 2 ** 32 - 2);
}

function inRange(value: number, max: number): boolean {
  return value >= 0 && value <= max;
}

function clampTime(sec: number): number {
  return Math.min(Math.max(sec, MIN_TIME), MAX_TIME);
}
