import { setTimeout as sleepFor } from "node:timers/promises";
import { FirectlError } from "../core/errors.ts";

export interface DeadlineOptions {
  readonly timeoutMs: number;
  /** What was waited for, completing "timed out after 5 s waiting for …". */
  readonly waitingFor: string;
  readonly signal?: AbortSignal | undefined;
  readonly hint?: string;
}

/**
 * Runs `work` with a signal that aborts when the deadline passes or the caller's signal does, and rejects at
 * that moment even when `work` does not listen.
 * @throws FirectlError TIMEOUT when the deadline passes; the caller's abort reason when that comes first.
 */
export async function withDeadline<T>(
  options: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  options.signal?.throwIfAborted();
  const controller = new AbortController();
  const { promise: aborted, reject } = promiseWithReject();
  const abort = (reason: unknown): void => {
    controller.abort(reason);
    reject(reason);
  };
  const onAbort = (): void => abort(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => abort(timeoutError(options)), options.timeoutMs);
  try {
    return await Promise.race([work(controller.signal), aborted]);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

export interface PollOptions extends DeadlineOptions {
  /** First pause between two tries; pauses double up to 16 times it. */
  readonly intervalMs: number;
}

/** Calls `attempt` until it returns something other than undefined, and returns that. */
export async function pollUntil<T>(
  options: PollOptions,
  attempt: (signal: AbortSignal) => Promise<T | undefined>,
): Promise<T> {
  return withDeadline(options, async (signal) => {
    let pauseMs = options.intervalMs;
    for (;;) {
      signal.throwIfAborted();
      const value = await attempt(signal);
      if (value !== undefined) return value;
      await sleepFor(pauseMs, undefined, { signal });
      pauseMs = Math.min(pauseMs * 2, options.intervalMs * 16);
    }
  });
}

function timeoutError(options: DeadlineOptions): FirectlError {
  const seconds = options.timeoutMs / 1000;
  const message = `timed out after ${seconds} s waiting for ${options.waitingFor}`;
  return new FirectlError("TIMEOUT", message, options.hint === undefined ? {} : { hint: options.hint });
}

function promiseWithReject(): { promise: Promise<never>; reject: (reason: unknown) => void } {
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise<never>((_resolve, rejectPromise) => {
    reject = rejectPromise;
  });
  // The race may be over before the rejection comes: it is then nobody's, and must not be reported.
  promise.catch(() => {});
  return { promise, reject };
}
