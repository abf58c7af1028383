import { BLOCK_SIZE, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK } from "./ext4/format.ts";
import { limitsOf, type RootfsLimits } from "./limits.ts";

/**
 * Blocks to leave for group descriptors: a file's block may hold a single byte of what the limit counts. Limits lower
 * than the usual ones give the same bytes as those.
 */
export function reservedFor(sizeBlocks: number | undefined, limits: RootfsLimits): number {
  const usual = limitsOf();
  const bytes = Math.max(limits.maxBytes, usual.maxBytes);
  const entries = Math.max(limits.maxEntries, usual.maxEntries);
  const blocks = sizeBlocks ?? bytes / BLOCK_SIZE + 4 * Math.min(entries, bytes / 512);
  const groups = Math.min(Math.ceil(blocks / BLOCKS_PER_GROUP) + 1, 2 ** 32 / BLOCKS_PER_GROUP);
  return Math.ceil(groups / DESCRIPTORS_PER_BLOCK);
}
