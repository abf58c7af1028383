import { lstatSync, readlinkSync, type Stats, statSync } from "node:fs";
import path from "node:path";
import { FirectlError } from "../../core/errors.ts";
import { ioError } from "../../host/files.ts";
import { type TarContent, writeTar } from "../../tar/writer.ts";
import type { CopyOptions, CopyReport } from "../api.ts";
import { gatherChunks } from "../gather-chunks.ts";
import type { GuestFiles } from "./guest-files.ts";
import { writeLocally } from "./local-destination.ts";
import { type Destination, placeCopy, readCopyPath } from "./placement.ts";

/** Copies out of a VM: to a path of this machine, or as a tar to whoever takes its pieces. */
export async function copyFrom(
  files: GuestFiles,
  paths: { readonly source: string; readonly destination: string | ((chunk: Uint8Array) => unknown) },
  options: CopyOptions,
): Promise<CopyReport> {
  const source = readCopyPath(paths.source, "/");
  const { destination } = paths;
  const to = typeof destination === "string" ? localDestination(destination) : undefined;
  const contents = files.read(source, { followLinks: options.followLinks ?? false })[Symbol.asyncIterator]();
  try {
    // What it is decides where it goes.
    const first = await contents.next();
    if (first.done === true) throw new Error("a copy has at least the entry that it is of");
    const whole = prepended(first.value, contents);
    if (to !== undefined) {
      const isDirectory = first.value.entry.type === "directory";
      const placement = placeCopy({ path: source, isDirectory }, to);
      const { archive = false, signal } = options;
      return await writeLocally(whole, placement, { archive, signal });
    }
    const base = source.isContents ? "." : path.posix.basename(source.path);
    return await writeArchive(
      named(whole, base === "" ? "." : base),
      destination as (chunk: Uint8Array) => unknown,
    );
  } finally {
    await contents.return?.(undefined);
  }
}

async function* prepended<T>(first: T, rest: AsyncIterator<T>): AsyncGenerator<T, void> {
  yield first;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

/** The entries as an archive names them: below the name of what was copied. */
async function* named(contents: AsyncIterable<TarContent>, base: string): AsyncGenerator<TarContent, void> {
  const name = Buffer.from(base, "utf8").toString("latin1");
  const below = (entryPath: string) => (entryPath === "" ? name : `${name}/${entryPath}`);
  for await (const { entry, data } of contents) {
    const linkPath = entry.type === "link" ? below(entry.linkPath) : entry.linkPath;
    yield { entry: { ...entry, path: below(entry.path), linkPath }, data };
  }
}

async function writeArchive(
  contents: AsyncIterable<TarContent>,
  write: (chunk: Uint8Array) => unknown,
): Promise<CopyReport> {
  let bytes = 0;
  for await (const chunk of gatherChunks(writeTar(contents))) {
    bytes += chunk.length;
    await write(chunk);
  }
  return { bytes, leftOut: [], leftOutCount: 0 };
}

/**
 * What is at a path of this machine. A link there may be what the guest had put there by an earlier copy, and leads
 * where the guest likes: it is something to be replaced, unless a slash says that the directory is meant to which it
 * leads.
 */
function localDestination(text: string): Destination {
  const named = readCopyPath(text, process.cwd());
  const found = lookAt(text, named.path);
  if (found === undefined) return { path: named, is: "absent" };
  const { link, stats } = found;
  if (stats === undefined || stats.isFile()) return { path: named, is: "other" };
  if (!stats.isDirectory()) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `cannot copy to ${text}: it must be a directory or a regular file`,
    );
  }
  if (link !== undefined && !named.isDirectory) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `cannot copy to ${text}: it is a symbolic link to the directory ${link}, and may have come with an earlier copy`,
      { hint: `add a slash to copy into that directory (${text}/), or remove the link` },
    );
  }
  return { path: named, is: "directory" };
}

/** What a path leads to, if it leads anywhere, and by which link. Undefined where there is nothing. */
function lookAt(
  text: string,
  name: string,
): { readonly link: string | undefined; readonly stats: Stats | undefined } | undefined {
  try {
    const stats = lstatSync(name, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    if (!stats.isSymbolicLink()) return { link: undefined, stats };
    return { link: readlinkSync(name), stats: statSync(name, { throwIfNoEntry: false }) };
  } catch (error) {
    throw ioError(`cannot copy to ${text}`, error);
  }
}
