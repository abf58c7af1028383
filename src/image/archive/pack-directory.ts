import { FirectlError, messageOf } from "../../core/errors.ts";
import { runProgram, streamProgram } from "../../host/process.ts";

/**
 * With everything that the files have, in an order and with headers that depend on nothing else: GNU tar would
 * put its process number, and the time of the last reading, into the archive.
 */
const TAR_FLAGS: readonly string[] = [
  "--format=posix",
  "--xattrs",
  "--xattrs-include=*",
  "--acls",
  "--sparse",
  "--numeric-owner",
  "--one-file-system",
  "--sort=name",
  "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
];

/** Sockets that a message names. */
const SHOWN_SOCKETS = 3;

export interface PackOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  /** Told of sockets, which no archive holds. */
  readonly onNotice: (message: string) => void;
}

/**
 * The tar of a directory, by GNU tar: other filesystems mounted in it are left out.
 * @throws FirectlError TOOL_MISSING without GNU tar, PERMISSION_DENIED for files that cannot be read, IO_FAILED
 *   for those that change meanwhile.
 */
export async function* packDirectory(directory: string, options: PackOptions): AsyncGenerator<Uint8Array> {
  const { env, onNotice } = options;
  await requireGnuTar(directory, options);
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  // Messages are read below: they must be in English.
  const program = streamProgram("tar", [...TAR_FLAGS, "-C", directory, "-c", "."], {
    signal,
    env: { ...env, LC_ALL: "C", TAR_OPTIONS: "" },
  });
  try {
    const output: AsyncIterable<Uint8Array> = program.stdout;
    yield* output;
    await program.finished;
  } catch (error) {
    options.signal?.throwIfAborted();
    throw packingError(directory, error);
  } finally {
    stop.abort();
  }
  const sockets = [...program.messages().matchAll(/^tar: (.*): socket ignored$/gm)].map(([, name]) => name);
  if (sockets.length > 0) {
    const shown = sockets.slice(0, SHOWN_SOCKETS).join(", ");
    onNotice(`sockets are left out: ${shown}${sockets.length > SHOWN_SOCKETS ? ", …" : ""}`);
  }
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
  if (!(error instanceof FirectlError) || error.code !== "PROCESS_FAILED") return error;
  const text = messageOf(error);
  const [first = text] = text.split("\n").filter((line) => /^tar: /.test(line)) ?? [];
  if (/Permission denied/.test(text)) {
    const denied = text.split("\n").find((line) => line.includes("Permission denied")) ?? first;
    return new FirectlError("PERMISSION_DENIED", `cannot read all of ${directory}: ${denied}`, {
      hint: "make the files readable, or run as their owner or root",
      cause: error,
    });
  }
  return new FirectlError("IO_FAILED", `cannot pack ${directory}: ${text}`, { cause: error });
}
