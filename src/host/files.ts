import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { open, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import { randomUuid } from "./random.ts";

/**
 * Replaces `file` by `contents` so that a reader, or a crash at any moment, sees the old bytes or the new
 * ones: temporary file in the same directory, fsync, rename, fsync of the directory.
 */
export async function writeFileAtomic(
  file: string,
  contents: string | Uint8Array,
  options: { mode?: number } = {},
): Promise<void> {
  const temporary = `${file}.${randomUuid()}.tmp`;
  try {
    await writeNewFileSynced(temporary, contents, options);
    renameSync(temporary, file);
  } catch (error) {
    // Where it could not be made it cannot be looked for either: the first failure is the one to tell.
    await rm(temporary, { force: true }).catch(() => {});
    throw cannotWrite(file, error);
  }
  await syncDirectory(path.dirname(file));
}

/**
 * Writes the new file `file` and waits until the disk has its bytes; its name is durable after a
 * {@link syncDirectory}.
 * @throws The system's error, EEXIST among them.
 */
export async function writeNewFileSynced(
  file: string,
  contents: string | Uint8Array,
  options: { mode?: number } = {},
): Promise<void> {
  const descriptor = openSync(file, "wx", options.mode ?? 0o600);
  try {
    writeFileSync(descriptor, contents);
    await synced(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * As {@link writeFileAtomic} for what comes in pieces, for its owner alone. What is there and no regular file (a
 * pipe, a device) is written to as it is.
 */
export async function writeChunksAtomic(file: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory() === true) {
    throw new FirectlError("INVALID_ARGUMENT", `cannot write ${file}: it is a directory`);
  }
  if (found !== undefined && !found.isFile()) {
    await writeChunks(file, { flags: "w", sync: false, chunks }).catch((error: unknown) => {
      throw ioError(`cannot write ${file}`, error);
    });
    return;
  }
  const target = await realpath(file).catch(() => file);
  const temporary = `${target}.${randomUuid()}.tmp`;
  try {
    await writeChunks(temporary, { flags: "wx", sync: true, chunks });
    await rename(temporary, target);
  } catch (error) {
    // Where it could not be made it cannot be looked for either: the first failure is the one to tell.
    await rm(temporary, { force: true }).catch(() => {});
    throw cannotWrite(file, error);
  }
  await syncDirectory(path.dirname(target));
}

async function writeChunks(
  file: string,
  options: { flags: string; sync: boolean; chunks: AsyncIterable<Uint8Array> },
): Promise<void> {
  const handle = await open(file, options.flags, 0o600);
  try {
    for await (const chunk of options.chunks) await handle.writeFile(chunk);
    if (options.sync) await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Why `file` was not written; it is not the user's business what it is called meanwhile. */
function cannotWrite(file: string, error: unknown): Error {
  const directory = path.dirname(file);
  if (errnoOf(error) !== "ENOENT" || existsSync(directory)) return ioError(`cannot write ${file}`, error);
  const message = `cannot write ${file}: there is no directory ${directory}`;
  return new FirectlError("FILE_NOT_FOUND", message, { cause: error });
}

/** Makes renames and new names in `directory` durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await synced(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Waits aside until the disk has it; what is quick is done at once, without the pool of threads and its turns. */
function synced(descriptor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(descriptor, (error) => (error === null ? resolve() : reject(error)));
  });
}

/** The text of `file`, or undefined when there is no such file. */
export async function readTextIfPresent(file: string): Promise<string | undefined> {
  try {
    // Configuration and state are small: read at once, they spare every command the start of a thread pool.
    return readFileSync(file, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot read ${file}`, error);
  }
}

/** The names in a directory; none when it is not there. @throws FirectlError when it cannot be read. */
export async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw ioError(`cannot read ${directory}`, error);
  }
}

/** The path that leads to what a descriptor has open, in whatever process has it: Node has no openat(2). */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * Creates `directory` and its parents, readable by their owner alone.
 * @throws FirectlError PERMISSION_DENIED when it is there and another user's, as one below /tmp may be: what
 *   lies in it would be in that user's hands.
 */
export async function makePrivateDirectory(directory: string): Promise<void> {
  let owner: number;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    owner = statSync(directory).uid;
  } catch (error) {
    throw ioError(`cannot create directory ${directory}`, error);
  }
  const user = process.getuid?.() ?? 0;
  if (user !== 0 && owner !== user) {
    throw new FirectlError(
      "PERMISSION_DENIED",
      `${directory} belongs to user ${owner}, and you are ${user}`,
      {
        hint: "have it removed, or name directories of your own with FIRECTL_DATA_DIR and FIRECTL_RUNTIME_DIR",
      },
    );
  }
}

/** Whether something exists at `file` (links followed). */
export async function exists(file: string): Promise<boolean> {
  try {
    statSync(file);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
    throw ioError(`cannot look at ${file}`, error);
  }
}

/** First executable called `name` in the directories of `PATH`, or undefined. A name with a slash is a path. */
export async function findExecutable(name: string, searchPath: string): Promise<string | undefined> {
  const candidates = name.includes("/")
    ? [name]
    : searchPath.split(":").map((dir) => path.join(dir || ".", name));
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return path.resolve(candidate);
    } catch {
      // Not there or not ours to run: the next directory may have it.
    }
  }
  return undefined;
}

/** Wraps a system error so that it names the act, with a code and a next step for the usual causes. */
export function ioError(act: string, error: unknown): Error {
  if (error instanceof FirectlError) return error;
  switch (errnoOf(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return new FirectlError("NO_SPACE", `${act}: no space left on the device`, {
        hint: "free some space (firectl prune, firectl rm), or move the data directory with FIRECTL_DATA_DIR",
        cause: error,
      });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new FirectlError("PERMISSION_DENIED", `${act}: ${messageOf(error)}`, { cause: error });
    case "ENOENT":
      return new FirectlError("FILE_NOT_FOUND", `${act}: ${messageOf(error)}`, { cause: error });
    case undefined:
      return error instanceof Error ? error : new Error(String(error));
    default:
      return new FirectlError("IO_FAILED", `${act}: ${messageOf(error)}`, { cause: error });
  }
}
