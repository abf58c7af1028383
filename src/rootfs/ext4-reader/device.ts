import type { DiskInode } from "./inode.ts";

/** Major and minor number of a device: the old 16-bit form, or new_encode_dev() of the kernel's kdev_t.h. */
export function deviceOf(inode: DiskInode): { readonly major: number; readonly minor: number } {
  const old = inode.iBlock.readUInt32LE(0);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const value = inode.iBlock.readUInt32LE(4);
  return { major: (value >>> 8) & 0xfff, minor: (value & 0xff) | ((value >>> 12) & 0xf_ff00) };
}
