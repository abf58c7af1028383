import type { BlockFile } from "./block-file.ts";
import { descriptorChecksum } from "./checksum.ts";
import { encodeDirectory } from "./directory.ts";
import { buildExtentTree, extentsOf } from "./extents.ts";
import {
  BLOCK_SIZE,
  DESCRIPTOR_CHECKSUM_OFFSET,
  DESCRIPTOR_SIZE,
  encodeDescriptor,
  encodeJournalSuperblock,
  encodeSuperblock,
  GROUP_BLOCK_UNINIT,
  GROUP_INODE_UNINIT,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "./format.ts";
import { fillContiguous, I_BLOCK_WORD, writeInodes } from "./inode-table.ts";
import { dataRuns, directoryRuns, type Layout } from "./layout.ts";
import type { DirectoryId } from "./tree.ts";
import { checksumSeed, encodeInBlock, largeValues, setBlockReferences } from "./xattr.ts";

/** What the superblock says beyond the layout. */
export interface FilesystemIdentity {
  /** 16 bytes. */
  readonly uuid: Buffer;
  readonly label: string;
  readonly readOnly: boolean;
}

/** Writes everything that `layout` plans; the file's data is there already. The superblock goes last. */
export function writeFilesystem(file: BlockFile, layout: Layout, identity: FilesystemIdentity): void {
  const seed = checksumSeed(identity.uuid);
  writeDirectories(file, layout);
  writeSymlinks(file, layout);
  writeExtentBlocks(file, layout);
  writeXattrBlocks(file, layout, seed);
  if (layout.journal !== undefined) {
    const { physical, length } = layout.journal;
    writeAt(file, physical, encodeJournalSuperblock(length, identity.uuid));
  }
  writeBitmaps(file, layout);
  writeInodes(file, layout, seed);
  writeDescriptors(file, layout, identity.uuid);
  file.seekByte(SUPERBLOCK_OFFSET);
  file.write(superblock(layout, identity));
  file.flush();
}

function writeAt(file: BlockFile, block: number, bytes: Buffer): void {
  file.seek(block);
  file.write(bytes);
}

function writeDirectories(file: BlockFile, { numbered, directories }: Layout): void {
  for (const directory of numbered.directories) {
    file.seek(directories.first[directory] ?? 0);
    encodeDirectory(numbered.tree, directory, {
      index: directories.indexes.get(directory),
      emit: (block) => file.write(block),
    });
  }
}

function writeSymlinks(file: BlockFile, { numbered, symlinkBlocks }: Layout): void {
  const bytes = Buffer.alloc(BLOCK_SIZE);
  for (const [inode, block] of symlinkBlocks) {
    bytes.fill(0);
    bytes.write(numbered.tree.inodes.target(inode), "latin1");
    writeAt(file, block, bytes);
  }
}

function writeExtentBlocks(file: BlockFile, { numbered, directories, extentBlocks }: Layout): void {
  const table = numbered.tree.inodes;
  for (const [inode, { physical }] of extentBlocks) {
    // Numbering has put a directory's name where a file has its first block.
    const runs = table.isDirectory(inode)
      ? directoryRuns(directories, table.block(inode) as DirectoryId)
      : dataRuns(table, inode);
    for (const { block, bytes } of buildExtentTree(extentsOf(runs), physical).blocks) {
      writeAt(file, block, bytes);
    }
  }
}

function writeXattrBlocks(file: BlockFile, { numbered, xattrs }: Layout, seed: number): void {
  const { xattrSets } = numbered.tree.inodes;
  for (const content of xattrs.contents()) {
    const set = xattrSets.get(xattrs.setOf(content));
    const values = xattrs.values(content);
    const bytes = encodeInBlock(set, { numbers: values.map(({ number }) => number), seed });
    if (bytes === undefined) throw new Error("only attributes that need a block are given one");
    for (let index = 0; index < xattrs.blockCount(content); index++) {
      setBlockReferences(bytes, xattrs.references(content, index));
      writeAt(file, xattrs.block(content, index), bytes);
    }
    for (const { index, block } of values) {
      writeAt(file, block, largeValues(set)[index] ?? Buffer.alloc(0));
      file.pad();
    }
  }
}

function writeBitmaps(file: BlockFile, layout: Layout): void {
  const bitmap = Buffer.alloc(BLOCK_SIZE);
  let firstRun = 0;
  layout.groups.forEach((group, index) => {
    if ((group.flags & GROUP_BLOCK_UNINIT) !== 0) return;
    const start = index * layout.blocksPerGroup;
    const end = start + layout.blocksPerGroup;
    // Used unless free; what lies beyond the filesystem's end counts as used.
    bitmap.fill(0xff);
    while ((layout.free[firstRun]?.physical ?? end) + (layout.free[firstRun]?.length ?? 0) <= start)
      firstRun++;
    for (let i = firstRun; i < layout.free.length; i++) {
      const run = layout.free[i];
      if (run === undefined || run.physical >= end) break;
      clearBits(
        bitmap,
        Math.max(run.physical, start) - start,
        Math.min(run.physical + run.length, end) - start,
      );
    }
    writeAt(file, group.blockBitmap, bitmap);
  });
  for (const group of layout.groups) {
    if ((group.flags & GROUP_INODE_UNINIT) !== 0) continue;
    bitmap.fill(0xff);
    clearBits(bitmap, layout.inodesPerGroup - group.freeInodes, layout.inodesPerGroup);
    writeAt(file, group.inodeBitmap, bitmap);
  }
}

function clearBits(bitmap: Buffer, from: number, to: number): void {
  let bit = from;
  while (bit < to) {
    if (bit % 8 === 0 && bit + 8 <= to) {
      const bytes = Math.floor((to - bit) / 8);
      bitmap.fill(0, bit / 8, bit / 8 + bytes);
      bit += bytes * 8;
    } else {
      const index = bit >> 3;
      bitmap[index] = (bitmap[index] ?? 0) & ~(1 << (bit & 7));
      bit++;
    }
  }
}

function writeDescriptors(file: BlockFile, layout: Layout, uuid: Buffer): void {
  const bytes = Buffer.alloc(layout.groups.length * DESCRIPTOR_SIZE);
  layout.groups.forEach((group, index) => {
    const at = index * DESCRIPTOR_SIZE;
    encodeDescriptor(bytes, at, group);
    const covered = bytes.subarray(at, at + DESCRIPTOR_CHECKSUM_OFFSET);
    bytes.writeUInt16LE(descriptorChecksum(uuid, index, covered), at + DESCRIPTOR_CHECKSUM_OFFSET);
  });
  file.seek(1);
  file.write(bytes);
  file.pad();
}

function superblock(layout: Layout, identity: FilesystemIdentity): Buffer {
  const bytes = Buffer.alloc(SUPERBLOCK_SIZE);
  const sum = (pick: (group: Layout["groups"][number]) => number) =>
    layout.groups.reduce((total, group) => total + pick(group), 0);
  let journal: { iBlock: Uint32Array; size: number } | undefined;
  if (layout.journal !== undefined) {
    const words = new Uint32Array(I_BLOCK_WORD + 15);
    fillContiguous(words, layout.journal.physical, layout.journal.length);
    journal = { iBlock: words.subarray(I_BLOCK_WORD), size: layout.journal.length * BLOCK_SIZE };
  }
  encodeSuperblock(bytes, 0, {
    inodes: layout.inodesPerGroup * layout.groups.length,
    inodesPerGroup: layout.inodesPerGroup,
    blocks: layout.blocks,
    blocksPerGroup: layout.blocksPerGroup,
    freeBlocks: sum((group) => group.freeBlocks),
    freeInodes: sum((group) => group.freeInodes),
    uuid: identity.uuid,
    label: identity.label,
    readOnly: identity.readOnly,
    valueInodes: layout.xattrs.valueInodes.length > 0,
    journal,
  });
  return bytes;
}
