import path from "node:path";
import { FirectlError, messageOf } from "../../core/errors.ts";
import { descriptorPath } from "../../host/files.ts";
import { runProgram, streamProgram } from "../../host/process.ts";
import { type TarContent, writeTar } from "../../tar/writer.ts";
import { dataOf, type TarEvent, tarEvents } from "./tar-events.ts";

/** With everything that the files have, in an order that depends on nothing else. */
const TAR_FLAGS: readonly string[] = [
  "--format=posix",
  "--xattrs",
  "--xattrs-include=*",
  "--acls",
  "--sparse",
  "--numeric-owner",
  "--one-file-system",
  "--sort=name",
  "--pax-option=delete=atime,delete=ctime",
];

/** Files that a message names. */
const SHOWN_FILES = 3;

/** What GNU tar says of files that it does not hold as they are, and what we say of them. */
const NOTICES: readonly (readonly [RegExp, string])[] = [
  [/^tar: (.*): socket ignored$/gm, "sockets are left out"],
  [/^tar: (.*): (?:file changed as we read it|File shrank by .*)$/gm, "files changed while they were read"],
  [/^tar: (.*): File removed before we read it$/gm, "files vanished before they were read"],
  [/^tar: (.*): file is on a different filesystem; not dumped$/gm, "other filesystems are left out"],
];

export interface PackOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  /** A directory within it that is left out: the store, which grows meanwhile. */
  readonly exclude: string;
  /** Told of sockets, which no archive holds, and of files that changed meanwhile. */
  readonly onNotice: (message: string) => void;
}

/**
 * The tar of a directory, by GNU tar: other filesystems mounted in it are left out. Its headers are written anew,
 * since GNU tar's own hold its process number: the same files give the same bytes.
 * @throws FirectlError TOOL_MISSING without GNU tar, PERMISSION_DENIED for files that cannot be read, IO_FAILED.
 */
export function packDirectory(directory: string, options: PackOptions): AsyncGenerator<Uint8Array> {
  const events = tarEvents(plainTar(directory, options), (entry, problem) => {
    const where = entry === undefined ? "" : `, entry ${JSON.stringify(entry)}`;
    return new FirectlError("IO_FAILED", `cannot pack ${directory}${where}: ${problem}`);
  });
  return writeTar(contentsOf(events));
}

async function* contentsOf(events: AsyncGenerator<TarEvent, undefined>): AsyncGenerator<TarContent> {
  try {
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      if (next.value.kind !== "entry") continue;
      const { entry } = next.value;
      yield entry.type === "file" ? { entry, data: dataOf(events) } : { entry };
    }
  } finally {
    await events.return(undefined);
  }
}

/**
 * The tar as GNU tar writes it: of the directory, or of one file in it, whose entry then comes alone. With the
 * directory's `descriptor` it is not looked for by its path again, where something else may be by now.
 * @throws FirectlError as {@link packDirectory}.
 */
export async function* plainTar(
  directory: string,
  options: PackOptions & { readonly name?: string; readonly descriptor?: number },
): AsyncGenerator<Uint8Array> {
  const { env, name, descriptor, onNotice } = options;
  await requireGnuTar(directory, options);
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  // Messages are read below: they must be in English.
  const wanted = name === undefined ? "." : `./${name}`;
  const where = descriptor === undefined ? directory : descriptorPath(0);
  const args = [...TAR_FLAGS, ...excluding(directory, options.exclude), "-C", where, "-c", wanted];
  const program = streamProgram("tar", args, {
    signal,
    env: { ...env, LC_ALL: "C", TAR_OPTIONS: "" },
    ...(descriptor === undefined ? {} : { stdin: descriptor }),
  });
  try {
    const output: AsyncIterable<Uint8Array> = program.stdout;
    yield* output;
    await program.finished;
  } catch (error) {
    options.signal?.throwIfAborted();
    // Status 1 is that of a whole archive of files that changed.
    if (!isFailure(error, /ended with status 1:/)) throw packingError(directory, error);
  } finally {
    stop.abort();
  }
  for (const [pattern, problem] of NOTICES) {
    const names = [...program.messages().matchAll(pattern)].map(([, name]) => name);
    if (names.length === 0) continue;
    const shown = names.slice(0, SHOWN_FILES).join(", ");
    onNotice(`${problem}: ${shown}${names.length > SHOWN_FILES ? ", …" : ""}`);
  }
}

function excluding(directory: string, excluded: string): readonly string[] {
  const inside = path.relative(directory, excluded);
  if (inside === "" || inside.startsWith("..") || path.isAbsolute(inside)) return [];
  return ["--anchored", "--no-wildcards", `--exclude=./${inside}`];
}

async function requireGnuTar(directory: string, { env, signal }: PackOptions): Promise<void> {
  const hint = "install GNU tar, or pack the directory elsewhere and write rootfs:FILE";
  try {
    // Busybox's tar has neither --version nor what is needed.
    if (/GNU tar/.test(await runProgram("tar", ["--version"], { env, signal }))) return;
  } catch (error) {
    if (!(error instanceof FirectlError && /TOOL_MISSING|PROCESS_FAILED/.test(error.code))) throw error;
  }
  throw new FirectlError(
    "TOOL_MISSING",
    `packing ${directory} needs GNU tar, and the tar found is another one`,
    {
      hint,
    },
  );
}

function packingError(directory: string, error: unknown): unknown {
  if (!isFailure(error, /./)) return error;
  const text = messageOf(error);
  const denied = text.split("\n").find((line) => line.includes("Permission denied"));
  if (denied === undefined) {
    return new FirectlError("IO_FAILED", `cannot pack ${directory}: ${text}`, { cause: error });
  }
  return new FirectlError(
    "PERMISSION_DENIED",
    `cannot read all of ${directory}: ${denied.replace(/^.*tar: /, "")}`,
    { hint: "make the files readable, or run as their owner or root", cause: error },
  );
}

function isFailure(error: unknown, message: RegExp): boolean {
  return error instanceof FirectlError && error.code === "PROCESS_FAILED" && message.test(error.message);
}
