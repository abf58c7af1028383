import { readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { pollUntil } from "../host/deadline.ts";
import { ioError, makePrivateDirectory } from "../host/files.ts";
import { isAlive, type ProcessIdentity } from "../host/process-identity.ts";
import { randomUuid } from "../host/random.ts";
import type { LaunchOptions } from "../vmm/vmm.ts";
import type { FirecrackerApi } from "./api/client.ts";
import { type BootSnapshot, MEMORY, STATE } from "./boot-snapshot.ts";

/** What the snapshots of all images may take of the disk, in bytes; those used longest ago go first. */
const MAX_TOTAL_BYTES = 2 * 1024 ** 3;

/** Hardware needs a tenth of a second for it, nested machines up to twenty times as long. */
const READY_TIMEOUT_MS = 60_000;

/** Nobody takes so long for one: whoever began it was killed. */
const ABANDONED_MS = 10 * 60_000;

/** `st_blocks` counts in these, whatever the filesystem's own blocks are: stat(2). */
const STAT_BLOCK_BYTES = 512;

/**
 * Keeps a guest as it is now, stopped meanwhile. That it cannot be kept is no reason for the VM to fail.
 * @throws FirectlError when the guest cannot be made to go on.
 */
export async function takeBootSnapshot(
  snapshot: BootSnapshot,
  { api, firecracker }: { readonly api: FirecrackerApi; readonly firecracker: ProcessIdentity },
): Promise<void> {
  const unfinished = path.join(snapshot.root, `.${randomUuid()}.tmp`);
  await api.setState("Paused");
  try {
    await makePrivateDirectory(unfinished);
    await api.createSnapshot({
      // Of a guest that has only booted it is whole, and without the pages that the guest has never touched.
      snapshot_type: "Diff",
      snapshot_path: path.join(unfinished, STATE),
      mem_file_path: path.join(unfinished, MEMORY),
    });
    // Which pages those are Firecracker learns from mincore(2), which misses what is swapped out.
    if (swappedKibOf(firecracker) === 0) await keep(snapshot, unfinished);
  } catch (error) {
    if (!(error instanceof FirectlError)) throw error;
  } finally {
    await api.setState("Resumed");
    rmSync(unfinished, { recursive: true, force: true });
  }
}

async function keep(snapshot: BootSnapshot, unfinished: string): Promise<void> {
  sweepBootSnapshots(snapshot.root, { keepBytes: MAX_TOTAL_BYTES - bytesOf(unfinished) });
  await makePrivateDirectory(path.dirname(snapshot.directory));
  try {
    renameSync(unfinished, snapshot.directory);
  } catch (error) {
    // Another firectl has been quicker, or the disk is full: the next VM finds what there is.
    if (errnoOf(error) === undefined) throw error;
  }
}

/**
 * Removes the snapshots of earlier boots of the host, those that were never finished, and those used longest ago beyond
 * `keepBytes`.
 */
export function sweepBootSnapshots(root: string, { keepBytes }: { readonly keepBytes: number }): void {
  const boots = path.dirname(root);
  for (const boot of namesIn(boots)) {
    if (boot !== path.basename(root)) rmSync(path.join(boots, boot), { recursive: true, force: true });
  }
  const groups = namesIn(root).filter((name) => {
    if (!name.startsWith(".")) return true;
    const unfinished = path.join(root, name);
    const startedMs = statSync(unfinished, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - startedMs > ABANDONED_MS) rmSync(unfinished, { recursive: true, force: true });
    return false;
  });
  const directories = groups.flatMap((group) =>
    namesIn(path.join(root, group)).map((name) => path.join(root, group, name)),
  );
  const newestFirst = directories
    .map((directory) => ({ directory, usedMs: statOf(directory, STATE)?.mtimeMs ?? 0 }))
    .sort((a, b) => b.usedMs - a.usedMs);
  let total = 0;
  for (const { directory } of newestFirst) {
    total += bytesOf(directory);
    if (total > keepBytes) rmSync(directory, { recursive: true, force: true });
  }
}

function bytesOf(directory: string): number {
  const blocks = [STATE, MEMORY].map((name) => statOf(directory, name)?.blocks ?? 0);
  return blocks.reduce((sum, count) => sum + count * STAT_BLOCK_BYTES, 0);
}

function statOf(
  directory: string,
  name: string,
): { readonly blocks: number; readonly mtimeMs: number } | undefined {
  return statSync(path.join(directory, name), { throwIfNoEntry: false });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return [];
    throw ioError(`cannot read ${directory}`, error);
  }
}

/** VmSwap of proc_pid_status(5); what cannot be told is not nothing. */
function swappedKibOf({ pid }: ProcessIdentity): number {
  const match = /^VmSwap:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  return match === null ? Number.NaN : Number(match[1]);
}

/** Hears a guest say that it is ready; it goes on, should it not have been kept, when this is disposed of. */
export class ReadyListener implements AsyncDisposable {
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  #heard = false;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (connection) => {
      this.#connections.add(connection);
      connection.on("error", () => {});
      // Only now has the guest made its side of the connection, too.
      connection.once("data", () => {
        this.#heard = true;
      });
    });
  }

  /** Undefined where nobody can listen: the guest goes on by itself then. */
  static async open(socketPath: string): Promise<ReadyListener | undefined> {
    const server = createServer();
    const isListening = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(socketPath, () => resolve(true));
    });
    return isListening ? new ReadyListener(server) : undefined;
  }

  /** False when the guest has gone on without a word (it may have no vsock), has ended, or takes too long. */
  async heard(
    firecracker: ProcessIdentity,
    { isGuestAtWork, signal }: Pick<LaunchOptions, "isGuestAtWork" | "signal">,
  ): Promise<boolean> {
    try {
      return await pollUntil(
        { timeoutMs: READY_TIMEOUT_MS, waitingFor: "the guest to be ready", intervalMs: 1, signal },
        async () => {
          if (this.#heard) return true;
          return isAlive(firecracker) && !(await isGuestAtWork?.()) ? undefined : false;
        },
      );
    } catch (error) {
      if (error instanceof FirectlError && error.code === "TIMEOUT") return false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
