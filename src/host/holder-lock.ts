import { readFileSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { withFileLock } from "./file-lock.ts";
import { ioError } from "./files.ts";
import { isAlive, ownIdentity } from "./process-identity.ts";

/** Whoever waits looks this often: the lock is held for some milliseconds at a time. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 16;

/**
 * Holds an exclusive lock while `work` runs: the symbolic link `link`, which names its holder. Making one is a
 * single system call that succeeds for one process only; a lock of flock(2), which Node cannot take, costs the
 * start of flock(1), some five milliseconds. A link whose holder has ended (or was of another boot of the host) is
 * removed, under a lock of the latter kind on `guard`, so that nobody removes the next one's link instead.
 * @throws FirectlError LOCK_TIMEOUT when another process holds it for longer than `timeoutMs`.
 */
export async function withHolderLock<T>(
  link: string,
  options: { readonly guard: string; readonly timeoutMs: number },
  work: () => Promise<T>,
): Promise<T> {
  await acquire(link, options);
  try {
    return await work();
  } finally {
    unlinkSync(link);
  }
}

async function acquire(link: string, options: { guard: string; timeoutMs: number }): Promise<void> {
  const name = ownName();
  const deadline = performance.now() + options.timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; !tryToMake(link, name); ) {
    const holder = holderOf(link);
    if (holder === undefined) continue;
    if (!lives(holder)) {
      await withFileLock(options.guard, { timeoutMs: options.timeoutMs }, async () => removeIfDead(link));
      continue;
    }
    if (performance.now() > deadline) throw heldTooLong(link, { holder, timeoutMs: options.timeoutMs });
    await sleep(pauseMs);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

function tryToMake(link: string, name: string): boolean {
  try {
    symlinkSync(name, link);
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw ioError(`cannot make the lock ${link}`, error);
  }
}

/** The text of the link; undefined when it is gone. */
function holderOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot read the lock ${link}`, error);
  }
}

/** Under the guard nobody else removes a dead holder's link, and a dead holder does not. */
function removeIfDead(link: string): void {
  const holder = holderOf(link);
  if (holder !== undefined && !lives(holder)) unlinkSync(link);
}

/** `PID:START:BOOT`, see ProcessIdentity; the lock of no process that lives is anything else. */
const HOLDER = /^(\d+):(\d+):([0-9a-f-]+)$/;

let bootId: string | undefined;

function currentBoot(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return bootId;
}

function ownName(): string {
  const { pid, startTime } = ownIdentity();
  return `${pid}:${startTime}:${currentBoot()}`;
}

function lives(holder: string): boolean {
  const [, pid, startTime, boot] = HOLDER.exec(holder) ?? [];
  return boot === currentBoot() && isAlive({ pid: Number(pid), startTime: Number(startTime) });
}

function heldTooLong(
  link: string,
  { holder, timeoutMs }: { holder: string; timeoutMs: number },
): FirectlError {
  const seconds = (timeoutMs / 1000).toFixed(3);
  return new FirectlError(
    "LOCK_TIMEOUT",
    `another firectl (process ${holder.split(":")[0]}) has held ${link} for more than ${seconds} s`,
    { hint: "look for a firectl process that hangs, end it, and try again" },
  );
}
