import type { InodeId } from "../ext4/inodes.ts";
import { RecordTable } from "../ext4/record-table.ts";

const INODE = 0;
const ORDINAL = 1;
const ENTRY_WORDS = 2;

/** Files of a layer whose data was not taken, and which of the layer's entries each is: both rise as they come. */
export class PassedOver {
  readonly #table: RecordTable = new RecordTable(ENTRY_WORDS);

  add(inode: InodeId, ordinal: number): void {
    const record = this.#table.add();
    this.#table.set(record, INODE, inode);
    this.#table.set(record, ORDINAL, ordinal);
  }

  /** The place in the layer of the entry that `inode` was made for, or undefined if its data was taken. */
  ordinal(inode: InodeId): number | undefined {
    let low = 1;
    let high = this.#table.count;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const at = this.#table.get(middle, INODE);
      if (at === inode) return this.#table.get(middle, ORDINAL);
      if (at < inode) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }
}
