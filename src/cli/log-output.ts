import type { LogEntry } from "../manager/api.ts";
import type { CliIo } from "./io.ts";
import { formatUnixNs } from "./time-text.ts";

const NEWLINE = 0x0a;

/** Writes log entries to the streams they came from; with `timestamps` each line begins with its time. */
export async function writeLogs(
  entries: AsyncIterable<LogEntry>,
  options: { io: CliIo; timestamps: boolean },
): Promise<void> {
  const { io } = options;
  // An entry may end within a line; what follows on the same stream then goes on with that line.
  const atLineStart = { stdout: true, stderr: true };
  for await (const entry of entries) {
    const sink = entry.stream === "stdout" ? io.stdout : io.stderr;
    if (!options.timestamps) {
      await sink.stream(entry.data);
      continue;
    }
    const prefix = Buffer.from(`${formatUnixNs(entry.timeUnixNs)} `);
    await sink.stream(withPrefixes(entry.data, { prefix, atLineStart: atLineStart[entry.stream] }));
    if (entry.data.length > 0) atLineStart[entry.stream] = entry.data.at(-1) === NEWLINE;
  }
}

/** `data` with `prefix` before each line that begins in it. */
function withPrefixes(data: Uint8Array, options: { prefix: Uint8Array; atLineStart: boolean }): Uint8Array {
  const pieces: Uint8Array[] = [];
  let begin = 0;
  let prefixDue = options.atLineStart;
  while (begin < data.length) {
    const newline = data.indexOf(NEWLINE, begin);
    const end = newline < 0 ? data.length : newline + 1;
    if (prefixDue) pieces.push(options.prefix);
    pieces.push(data.subarray(begin, end));
    prefixDue = true;
    begin = end;
  }
  return Buffer.concat(pieces);
}
