/** Smallest journal that JBD2 takes, in blocks. */
export const MIN_JOURNAL_BLOCKS = 1024;

/**
 * Blocks of the journal of a filesystem of `blocks` blocks: mke2fs's sizes up to 32 MiB. A larger journal gains
 * a single guest nothing and would in time take that much of the host's disk for each VM.
 */
export function journalBlocksFor(blocks: number): number {
  if (blocks < 32_768) return MIN_JOURNAL_BLOCKS;
  if (blocks < 262_144) return 4096;
  return 8192;
}
