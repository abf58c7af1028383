import type { LogEntry } from "./api.ts";

const NEWLINE = 0x0a;

interface KeptEntry {
  readonly entry: LogEntry;
  readonly newlines: number;
}

/**
 * The last `lines` lines of a log, stdout and stderr counted together in the order of writing, as Docker
 * does; a last line without its newline counts. Holds about these lines in memory, which in a log without
 * newlines is all of it: what is stored of a VM's output is at most what its ring holds.
 */
export async function* tailOf(entries: AsyncIterable<LogEntry>, lines: number): AsyncIterable<LogEntry> {
  let kept: KeptEntry[] = [];
  let dropped = 0;
  let newlines = 0;
  for await (const entry of entries) {
    const added = { entry, newlines: countNewlines(entry.data) };
    kept.push(added);
    newlines += added.newlines;
    // Whole entries are dropped from the front while enough lines stay behind them.
    let first = kept[dropped];
    while (first !== undefined && newlines - first.newlines > lines) {
      newlines -= first.newlines;
      dropped++;
      first = kept[dropped];
    }
    // Seldom: to move what is left costs as much as there is of it.
    if (dropped > kept.length / 2) {
      kept = kept.slice(dropped);
      dropped = 0;
    }
  }
  const last = kept.at(-1)?.entry;
  const isOpen = last !== undefined && last.data.at(-1) !== NEWLINE;
  let surplus = newlines + (isOpen ? 1 : 0) - lines;
  for (const { entry } of kept.slice(dropped)) {
    if (surplus <= 0) {
      yield entry;
      continue;
    }
    const start = indexAfterNewlines(entry.data, surplus);
    surplus -= countNewlines(entry.data.subarray(0, start));
    if (surplus <= 0 && start < entry.data.length) yield { ...entry, data: entry.data.subarray(start) };
  }
}

function countNewlines(data: Uint8Array): number {
  let count = 0;
  for (const byte of data) if (byte === NEWLINE) count++;
  return count;
}

/** Index behind the `count`th newline, or the length when there are fewer. */
function indexAfterNewlines(data: Uint8Array, count: number): number {
  let left = count;
  for (let i = 0; i < data.length; i++) if (data[i] === NEWLINE && --left === 0) return i + 1;
  return data.length;
}
