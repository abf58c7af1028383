import { watch } from "node:fs";
import { type DeadlineOptions, withDeadline } from "./deadline.ts";

/** How often to look without a notification: inotify may be exhausted, and some changes make no event. */
const FALLBACK_INTERVAL_MS = 25;

export interface WatchOptions extends DeadlineOptions {
  readonly directory: string;
  /** The slow beat, where what is waited for comes soon after the last event, or makes none. */
  readonly intervalMs?: number;
}

/**
 * Calls `attempt` now, whenever something changes in `directory`, and at a slow beat besides, until it
 * returns something other than undefined; returns that. An error of `attempt` ends the wait.
 * @throws FirectlError TIMEOUT; what `attempt` throws.
 */
export async function watchUntil<T>(
  options: WatchOptions,
  attempt: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const early = await attempt();
  if (early !== undefined) return early;
  return withDeadline(options, async (signal) => {
    let wake: () => void = () => {};
    let changed = false;
    const onChange = (): void => {
      changed = true;
      wake();
    };
    const close = notifyOfChanges(options.directory, onChange);
    signal.addEventListener("abort", onChange, { once: true });
    try {
      for (;;) {
        signal.throwIfAborted();
        changed = false;
        const value = await attempt();
        if (value !== undefined) return value;
        if (changed) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
          setTimeout(resolve, options.intervalMs ?? FALLBACK_INTERVAL_MS);
        });
      }
    } finally {
      close();
      signal.removeEventListener("abort", onChange);
    }
  });
}

function notifyOfChanges(directory: string, onChange: () => void): () => void {
  try {
    const watcher = watch(directory, { persistent: false }, onChange);
    watcher.on("error", () => watcher.close());
    return () => watcher.close();
  } catch {
    // No inotify instance left (fs.inotify.max_user_instances): the slow beat does it alone.
    return () => {};
  }
}
