import { open } from "node:fs/promises";
import { FirectlError } from "../core/errors.ts";

// process.ts is loaded with the first lock: a list of VMs is read without one.

/**
 * Holds an exclusive advisory lock on `file` (created when missing) while `work` runs. The lock is a
 * flock(2) on our own descriptor, taken by flock(1) which inherits it: the kernel frees it when we end,
 * however we end, and a paused holder keeps it. With `shared`, other shared holders may have it too.
 * Aborting `signal` ends the wait, not `work`.
 * @throws FirectlError LOCK_TIMEOUT when another process holds it for longer than `timeoutMs`.
 */
export async function withFileLock<T>(
  file: string,
  options: { timeoutMs: number; shared?: boolean; signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  const handle = await open(file, "a", 0o600);
  try {
    const seconds = (options.timeoutMs / 1000).toFixed(3);
    const { runWithDescriptor } = await import("./process.ts");
    const status = await runWithDescriptor(
      "flock",
      [options.shared === true ? "-s" : "-x", "-w", seconds, "3"],
      handle.fd,
      options.signal,
    );
    options.signal?.throwIfAborted();
    if (status !== 0) {
      throw new FirectlError("LOCK_TIMEOUT", `another firectl has held ${file} for more than ${seconds} s`, {
        hint: "look for a firectl process that hangs, end it, and try again",
      });
    }
    return await work();
  } finally {
    await handle.close();
  }
}

/** Runs `work` under the lock if nobody holds it at this moment; returns undefined when somebody does. */
export async function tryFileLock<T>(file: string, work: () => Promise<T>): Promise<T | undefined> {
  const handle = await open(file, "a", 0o600);
  try {
    const { runWithDescriptor } = await import("./process.ts");
    const status = await runWithDescriptor("flock", ["-x", "-n", "3"], handle.fd);
    return status === 0 ? await work() : undefined;
  } finally {
    await handle.close();
  }
}
