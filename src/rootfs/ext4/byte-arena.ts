const PAGE_BYTES = 65_536;
const PAGE_SHIFT = 16;

/** What an arena's addresses, 32 bits, can reach: what is left of pages is lost, so it is a little less. */
export const MAX_ARENA_BYTES: number = 3.5 * 2 ** 30;

/**
 * Keeps many short pieces of bytes, names above all, one after the other: a piece is an address and a length,
 * which its owner holds. Nothing is ever taken out.
 */
export class ByteArena {
  readonly #pages: Buffer[] = [];
  #used: number = PAGE_BYTES;

  /** Keeps bytes given as a latin1 string; returns their address. */
  addText(text: string): number {
    const address = this.#reserve(text.length);
    const page = this.#pageOf(address);
    const at = address & (PAGE_BYTES - 1);
    for (let i = 0; i < text.length; i++) page[at + i] = text.charCodeAt(i);
    return address;
  }

  /** Keeps `bytes`; returns their address. */
  add(bytes: Uint8Array): number {
    const address = this.#reserve(bytes.length);
    this.#pageOf(address).set(bytes, address & (PAGE_BYTES - 1));
    return address;
  }

  /** The piece as a latin1 string. */
  text(address: number, length: number): string {
    const at = address & (PAGE_BYTES - 1);
    return this.#pageOf(address).toString("latin1", at, at + length);
  }

  /** The piece itself. */
  bytes(address: number, length: number): Buffer {
    const at = address & (PAGE_BYTES - 1);
    return this.#pageOf(address).subarray(at, at + length);
  }

  /** Whether the piece at `address`, as long as `text`, is that text. */
  equals(address: number, text: string): boolean {
    const page = this.#pageOf(address);
    const at = address & (PAGE_BYTES - 1);
    for (let i = 0; i < text.length; i++) if (page[at + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  /** Copies a piece to `target`. */
  copy(address: number, length: number, to: { readonly target: Buffer; readonly at: number }): void {
    const page = this.#pageOf(address);
    const from = address & (PAGE_BYTES - 1);
    for (let i = 0; i < length; i++) to.target[to.at + i] = page[from + i] ?? 0;
  }

  #pageOf(address: number): Buffer {
    const page = this.#pages[address >>> PAGE_SHIFT];
    if (page === undefined) throw new Error("an arena holds what its addresses name");
    return page;
  }

  /** A piece lies in one page; one that is larger than a page has a larger page to itself. */
  #reserve(length: number): number {
    // A piece of nothing has an address too.
    if (this.#used + Math.max(length, 1) > PAGE_BYTES) {
      if (this.#pages.length === 2 ** (32 - PAGE_SHIFT)) throw new Error("an arena has at most 4 GiB");
      this.#pages.push(Buffer.allocUnsafeSlow(Math.max(PAGE_BYTES, length)));
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += length;
    return ((this.#pages.length - 1) * PAGE_BYTES + at) >>> 0;
  }
}
