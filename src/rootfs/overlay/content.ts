import type { Xattr } from "../../tar/pax.ts";
import { BARE_ENTRY, type EntryType, type TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { type FileMap, readFile } from "../ext4-reader/contents.ts";
import { deviceOf } from "../ext4-reader/device.ts";
import {
  TYPE_BLOCK_DEVICE,
  TYPE_CHARACTER_DEVICE,
  TYPE_DIRECTORY,
  TYPE_FIFO,
  TYPE_FILE,
  TYPE_SYMLINK,
  typeOf,
} from "../ext4-reader/inode.ts";
import { readLink } from "../ext4-reader/symlink.ts";
import type { Volume } from "../ext4-reader/volume.ts";
import type { Place } from "./place.ts";

/** A file's data, which need not be of the same layer as its inode. */
export interface FileSource {
  readonly volume: Volume;
  readonly map: FileMap;
}

const TYPES: Readonly<Record<number, EntryType>> = {
  [TYPE_FILE]: "file",
  [TYPE_DIRECTORY]: "directory",
  [TYPE_SYMLINK]: "symlink",
  [TYPE_CHARACTER_DEVICE]: "character-device",
  [TYPE_BLOCK_DEVICE]: "block-device",
  [TYPE_FIFO]: "fifo",
};

/**
 * An inode as an entry of an archive.
 * @throws FirectlError DISK_INVALID for a type that Linux does not have.
 */
export function contentOf(
  path: string,
  { volume, inode }: Place,
  xattrs: readonly Xattr[],
  source: FileSource | undefined,
): TarContent {
  const type = TYPES[typeOf(inode)];
  if (type === undefined) {
    throw volume.invalid(`inode ${inode.number}: a mode of 0${inode.mode.toString(8)}`);
  }
  const isDevice = type === "character-device" || type === "block-device";
  const device = isDevice ? deviceOf(inode) : { major: 0, minor: 0 };
  const entry = {
    ...plainEntry(path, type, inode),
    size: source?.map.size ?? 0,
    linkPath: type === "symlink" ? readLink(volume, inode) : "",
    devMajor: device.major,
    devMinor: device.minor,
    xattrs: xattrs.length === 0 ? undefined : xattrs,
    sparse: source === undefined || isDense(source.map) ? undefined : source.map.segments,
  };
  return source === undefined ? { entry } : { entry, data: readFile(source.volume, source.map) };
}

/** Another name of an inode that has been shown. */
export function linkTo(first: string, path: string, { inode }: Place): TarContent {
  return { entry: { ...plainEntry(path, "link", inode), linkPath: first } };
}

function plainEntry(path: string, type: EntryType, inode: Place["inode"]): TarEntry {
  const { mode, uid, gid, mtimeSec, mtimeNsec } = inode;
  return {
    ...BARE_ENTRY,
    path,
    type,
    mode: mode & 0o7777,
    uid,
    gid,
    mtimeSec,
    mtimeNsec,
    // Reading a file is no change of it: the archive does not tell of it.
    atimeSec: mtimeSec,
    atimeNsec: mtimeNsec,
  };
}

function isDense({ size, segments }: FileMap): boolean {
  if (size === 0) return true;
  const [first] = segments;
  return segments.length === 1 && first?.offset === 0 && first.length === size;
}
