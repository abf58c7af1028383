import type { LogEntry } from "./api.ts";

const NEWLINE = 0x0a;

/**
 * The last `lines` lines of a log, stdout and stderr counted together in the order of writing, as Docker
 * does. Holds no more than these lines in memory; a last line without its newline counts.
 */
export async function* tailOf(entries: AsyncIterable<LogEntry>, lines: number): AsyncIterable<LogEntry> {
  const kept: LogEntry[] = [];
  let newlines = 0;
  for await (const entry of entries) {
    kept.push(entry);
    newlines += countNewlines(entry.data);
    // Whole entries are dropped from the front while enough lines stay behind them.
    let first = kept[0];
    while (first !== undefined && newlines - countNewlines(first.data) > lines) {
      newlines -= countNewlines(first.data);
      kept.shift();
      first = kept[0];
    }
  }
  const last = kept.at(-1);
  const isOpen = last !== undefined && last.data.at(-1) !== NEWLINE;
  let surplus = newlines + (isOpen ? 1 : 0) - lines;
  for (const entry of kept) {
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
