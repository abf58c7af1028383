import type { Run } from "./inodes.ts";

/** Gives out blocks: from gaps where a run fits, else after everything else. */
export class Space {
  end: number;
  #gaps: Run[];

  constructor(end: number, gaps: readonly Run[]) {
    this.end = end;
    this.#gaps = [...gaps];
  }

  take(length: number): number {
    const index = this.#gaps.findIndex((gap) => gap.length >= length);
    const gap = this.#gaps[index];
    if (gap === undefined) {
      const start = this.end;
      this.end += length;
      return start;
    }
    if (gap.length === length) this.#gaps.splice(index, 1);
    else this.#gaps[index] = { logical: 0, physical: gap.physical + length, length: gap.length - length };
    return gap.physical;
  }

  /** Offers a gap before all others. */
  give(physical: number, length: number): void {
    if (length > 0) this.#gaps.unshift({ logical: 0, physical, length });
  }

  get gapBlocks(): number {
    return this.#gaps.reduce((sum, gap) => sum + gap.length, 0);
  }

  /** The free runs of a filesystem of `blocks` blocks. */
  freeRuns(blocks: number): Run[] {
    const tail = blocks - this.end;
    return tail > 0 ? [...this.#gaps, { logical: 0, physical: this.end, length: tail }] : [...this.#gaps];
  }
}
