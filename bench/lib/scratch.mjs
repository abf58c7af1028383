import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/**
 * Gives `work` a directory of its own, below $TMPDIR, and removes it at the end. What is measured must not
 * remove many files while it runs: on a filesystem without a journal, creating files is slow for minutes after.
 */
export async function withScratch(work) {
  const directory = mkdtempSync(path.join(os.tmpdir(), "firectl-bench-"));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", remove);
  try {
    return await work({
      directory,
      /** A path in it, whose parent is there. */
      at: (...names) => {
        const target = path.join(directory, ...names);
        mkdirSync(path.dirname(target), { recursive: true });
        return target;
      },
      /** A directory in it that is there. */
      make: (...names) => {
        const target = path.join(directory, ...names);
        mkdirSync(target, { recursive: true });
        return target;
      },
    });
  } finally {
    remove();
    process.off("exit", remove);
  }
}

// Whoever interrupts a measurement leaves no daemon and no gigabytes behind.
for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
]) {
  process.once(signal, () => process.exit(status));
}
