import path from "node:path";
import { FirectlError } from "../../core/errors.ts";
import type { GuestClient } from "../../guest/client.ts";
import { encodeCopy } from "../../guest/copy-stream.ts";
import type { TarContent } from "../../tar/writer.ts";
import type { CopyOptions, CopyReport } from "../api.ts";
import { archiveRecords } from "./archive-source.ts";
import { statInGuest } from "./guest-files.ts";
import { openLocalSource } from "./local-source.ts";
import {
  type CopyPath,
  type Destination,
  notADirectory,
  type Placement,
  placeCopy,
  readCopyPath,
} from "./placement.ts";

/** Links of links that are followed to a destination; the kernel's own limit is as high. */
const MAX_LINKS = 40;

/** Copies into a VM that runs: a path of this machine, or the entries of a tar. */
export async function copyTo(
  guest: GuestClient,
  paths: { readonly source: string | AsyncIterable<Uint8Array>; readonly destination: string },
  options: CopyOptions & { readonly env: NodeJS.ProcessEnv },
): Promise<CopyReport> {
  const { signal, archive = false, followLinks = false } = options;
  const { source } = paths;
  const to = await guestDestination(guest, readCopyPath(paths.destination, "/"), signal);
  let bytes = 0;
  const count = (length: number): void => {
    bytes += length;
  };
  if (typeof source !== "string") {
    if (to.is !== "directory") throw notADirectory(paths.destination);
    await guest.copyIn(
      Buffer.from(to.path.path),
      archiveRecords(source, { env: options.env, signal, onData: count }),
      {
        signal,
      },
    );
    return { bytes, leftOut: [], leftOutCount: 0 };
  }
  const from = readCopyPath(source, process.cwd());
  const local = openLocalSource(from, { archive, followLinks, signal });
  const placement = placeCopy({ path: from, isDirectory: local.isDirectory }, to);
  const records = encodeCopy(placed(local.contents(), placement, count));
  await guest.copyIn(Buffer.from(placement.directory), records, { signal });
  return { bytes, leftOut: [], leftOutCount: 0 };
}

/** The entries under the names that they get. */
async function* placed(
  contents: AsyncIterable<TarContent>,
  { name }: Placement,
  onData: (length: number) => void,
): AsyncGenerator<TarContent, void> {
  const first = name === undefined ? undefined : Buffer.from(name, "utf8").toString("latin1");
  const below = (entryPath: string) => {
    if (first === undefined) return entryPath;
    return entryPath === "" ? first : `${first}/${entryPath}`;
  };
  for await (const { entry, data } of contents) {
    const renamed = below(entry.path);
    // The contents of a directory go into one that is there, and stays as it is.
    if (renamed === "") continue;
    const linkPath = entry.type === "link" ? below(entry.linkPath) : entry.linkPath;
    yield {
      entry: { ...entry, path: renamed, linkPath },
      data: data === undefined ? undefined : counted(data, onData),
    };
  }
}

async function* counted(
  data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  onData: (length: number) => void,
): AsyncGenerator<Uint8Array, void> {
  for await (const piece of data) {
    onData(piece.length);
    yield piece;
  }
}

/** What is at a path of the VM; a link there is followed, also to where nothing is yet. */
async function guestDestination(
  guest: GuestClient,
  named: CopyPath,
  signal: AbortSignal | undefined,
): Promise<Destination> {
  let current = named;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const stat = await statInGuest(guest, current, signal);
    if (stat === undefined) return { path: current, is: "absent" };
    if (stat.is === "directory") return { path: current, is: "directory" };
    if (stat.is === "other") return { path: current, is: "other" };
    if (stat.is === "device") {
      throw new FirectlError(
        "INVALID_ARGUMENT",
        `cannot copy to ${named.path}: it must be a directory or a regular file`,
      );
    }
    const link = Buffer.from(stat.link, "latin1").toString("utf8");
    current = { ...readCopyPath(link, path.posix.dirname(current.path)), isContents: named.isContents };
  }
  throw new FirectlError("INVALID_ARGUMENT", `cannot copy to ${named.path}: too many links lead on from it`);
}
