import { FirectlError } from "../../core/errors.ts";
import { encodeData, encodeEnd, encodeEntry } from "../../guest/copy-stream.ts";
import { expand, sniff } from "../../image/archive/expand.ts";
import { TarReader } from "../../tar/reader.ts";

/**
 * The entries of a tar, packed or not, as records of a copy.
 * @throws FirectlError ARCHIVE_INVALID, TOOL_MISSING for what only a program unpacks.
 */
export async function* archiveRecords(
  input: AsyncIterable<Uint8Array>,
  options: {
    readonly env: NodeJS.ProcessEnv;
    readonly signal: AbortSignal | undefined;
    readonly onData: (length: number) => void;
  },
): AsyncGenerator<Uint8Array, void> {
  let records: Uint8Array[] = [];
  const reader = new TarReader(
    "the archive",
    {
      entry(entry) {
        const path = cleaned(entry.path);
        // The directory that it is extracted into is there, and stays as it is.
        if (path === "") return false;
        const linkPath = entry.type === "link" ? cleaned(entry.linkPath) : entry.linkPath;
        records.push(encodeEntry({ ...entry, path, linkPath }));
        return entry.type === "file";
      },
      data(bytes) {
        options.onData(bytes.length);
        records.push(...encodeData(bytes));
      },
      end() {},
    },
    (entry, problem) =>
      new FirectlError(
        "ARCHIVE_INVALID",
        `the archive${entry === undefined ? "" : `, at ${JSON.stringify(entry)}`}: ${problem}`,
      ),
  );
  const { compression, chunks } = await sniff(input);
  const { signal, env } = options;
  for await (const chunk of expand(chunks, { compression, label: "on stdin", env, signal })) {
    options.signal?.throwIfAborted();
    reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
    if (records.length === 0) continue;
    yield Buffer.concat(records);
    records = [];
  }
  reader.finish();
  yield Buffer.concat([...records, encodeEnd()]);
}

/** A name of an archive as a path below where it is extracted. */
function cleaned(path: string): string {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..")) {
    const shown = JSON.stringify(Buffer.from(path, "latin1").toString("utf8"));
    throw new FirectlError("ARCHIVE_INVALID", `the archive has the name ${shown}, which leads out of it`);
  }
  return names.join("/");
}
