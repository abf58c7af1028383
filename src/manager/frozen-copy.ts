import { randomUUID } from "node:crypto";
import { readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import { withFileLock } from "../host/file-lock.ts";
import { ioError } from "../host/files.ts";
import { isAlive, ownIdentity } from "../host/process-identity.ts";
import { cloneFile } from "../rootfs/clone-disk.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { connectGuest } from "./guest-access.ts";
import { isVmmAlive } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** How long a guest's writes may be held back while its disk is copied: this, and time for what it holds. */
const FREEZE_BASE_MS = 30_000;
const SLOWEST_COPY_BYTES_PER_MS = (20 * MIB) / 1000;
/**
 * A consistent copy of `from`, the disk of a running VM, made while the guest's writes are held back; whoever asked
 * for it removes it. Undefined for a VM that does not run, or not any more.
 * @throws FirectlError TIMEOUT, LOCK_TIMEOUT, NO_SPACE, AGENT_UNREACHABLE, AGENT_FAILED.
 */
export async function copyOfRunning(
  context: Context,
  record: VmRecord,
  options: { readonly from: string; readonly signal: AbortSignal | undefined },
): Promise<string | undefined> {
  if (record.state !== "running") return undefined;
  const { from, signal } = options;
  const { directory } = vmPathsOf(context.directories, record.id);
  await removeStaleCopies(directory);
  const { pid, startTime } = ownIdentity();
  const to = path.join(directory, `export-${pid}-${startTime}-${randomUUID()}.img`);
  const limitMs = FREEZE_BASE_MS + Math.ceil((await allocatedBytes(from)) / SLOWEST_COPY_BYTES_PER_MS);
  const copy = { from, to, limitMs, signal };
  try {
    // One at a time: a disk can be frozen once.
    const lock = { timeoutMs: limitMs, signal };
    await withFileLock(path.join(directory, "export.lock"), lock, () => copyFrozen(record, copy));
    return to;
  } catch (error) {
    await rm(to, { force: true });
    // It has ended of itself: its disk lies still.
    const code = error instanceof FirectlError ? error.code : errnoOf(error);
    if (code !== undefined && SIGNS_OF_THE_END.has(code) && !isVmmAlive(record)) return undefined;
    throw error;
  }
}

/** What may go wrong with a VM that ends: no agent, nothing to freeze, no directory. */
const SIGNS_OF_THE_END: ReadonlySet<string> = new Set([
  "AGENT_UNREACHABLE",
  "WRONG_STATE",
  "TIMEOUT",
  "ENOENT",
]);

/** Copies that a firectl has left which was killed while it made them. */
async function removeStaleCopies(directory: string): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    const [, pid, startTime] = /^export-(\d+)-(\d+)-.*\.img$/.exec(name) ?? [];
    if (pid === undefined || isAlive({ pid: Number(pid), startTime: Number(startTime) })) continue;
    await rm(path.join(directory, name), { force: true });
  }
}

interface FrozenCopy {
  readonly from: string;
  readonly to: string;
  /** How long the guest's writes may be held back. */
  readonly limitMs: number;
  readonly signal: AbortSignal | undefined;
}

async function copyFrozen(record: VmRecord, options: FrozenCopy): Promise<void> {
  using guest = connectGuest(record);
  // Nobody else is at it: whoever froze it before has been killed.
  await guest.thaw({ signal: options.signal });
  let held = false;
  try {
    await guest.freeze(options.limitMs, { signal: options.signal });
    await cloneFile(options.from, options.to, options.signal);
  } finally {
    // Also when the call was given up: the guest may have frozen all the same.
    held = await guest.thaw().catch(() => false);
  }
  if (held) return;
  throw new FirectlError(
    "TIMEOUT",
    `${record.name} could not hold back its writes while its disk was copied`,
    {
      hint: `firectl stop ${record.name}, then firectl export ${record.name}`,
    },
  );
}

async function allocatedBytes(file: string): Promise<number> {
  try {
    return (await stat(file)).blocks * 512;
  } catch (error) {
    throw ioError(`cannot read ${file}`, error);
  }
}
