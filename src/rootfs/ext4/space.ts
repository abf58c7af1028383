import type { Run } from "./inodes.ts";

/** So many gaps are looked at for a piece of several blocks: a hostile image can leave a million of one block. */
const GAPS_TRIED = 64;

/** Gives out blocks: from gaps where a run fits, else after everything else. */
export class Space {
  end: number;
  /** Rising; those used up have no length. */
  readonly #gaps: Run[];
  /** The first that is not used up. */
  #first = 0;

  constructor(end: number, gaps: readonly Run[]) {
    this.end = end;
    this.#gaps = [...gaps];
  }

  take(length: number): number {
    for (let i = this.#first; i < Math.min(this.#gaps.length, this.#first + GAPS_TRIED); i++) {
      const gap = this.#gaps[i];
      if (gap === undefined || gap.length < length) continue;
      this.#gaps[i] = { logical: 0, physical: gap.physical + length, length: gap.length - length };
      while (this.#gaps[this.#first]?.length === 0) this.#first++;
      return gap.physical;
    }
    const start = this.end;
    this.end += length;
    return start;
  }

  /** Offers a gap before all others. */
  give(physical: number, length: number): void {
    if (length === 0) return;
    this.#gaps.splice(0, this.#first, { logical: 0, physical, length });
    this.#first = 0;
  }

  get gapBlocks(): number {
    return this.#gaps.reduce((sum, gap) => sum + gap.length, 0);
  }

  /** The free runs of a filesystem of `blocks` blocks. */
  freeRuns(blocks: number): Run[] {
    const free = this.#gaps.filter((gap) => gap.length > 0);
    if (blocks > this.end) free.push({ logical: 0, physical: this.end, length: blocks - this.end });
    return free;
  }
}
