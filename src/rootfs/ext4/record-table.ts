/** Records of one page: pages are never moved, so growing costs neither a copy nor garbage. */
const PAGE_RECORDS = 4096;
const PAGE_SHIFT = 12;

/**
 * A growing table of records of 32-bit words. Records are numbered from 1 on, so that 0 can mean none. A million
 * of them take what their words take, where a million objects would take several times that and keep the garbage
 * collector busy.
 */
export class RecordTable {
  readonly #words: number;
  readonly #pages: Uint32Array[];
  #next = 1;

  /** @param words How many words a record has. */
  constructor(words: number) {
    this.#words = words;
    this.#pages = [new Uint32Array(PAGE_RECORDS * words)];
  }

  /** How many records there are. */
  get count(): number {
    return this.#next - 1;
  }

  /** Adds a record of zeros and returns its number. */
  add(): number {
    const record = this.#next++;
    if (record >>> PAGE_SHIFT === this.#pages.length) {
      this.#pages.push(new Uint32Array(PAGE_RECORDS * this.#words));
    }
    return record;
  }

  get(record: number, word: number): number {
    const page = this.#pages[record >>> PAGE_SHIFT];
    return page?.[(record & (PAGE_RECORDS - 1)) * this.#words + word] ?? 0;
  }

  /** Sets a word to the lowest 32 bits of `value`. */
  set(record: number, word: number, value: number): void {
    const page = this.#pages[record >>> PAGE_SHIFT];
    if (page !== undefined) page[(record & (PAGE_RECORDS - 1)) * this.#words + word] = value;
  }
}
