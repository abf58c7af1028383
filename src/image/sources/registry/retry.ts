import { setTimeout as sleep } from "node:timers/promises";
import type { FirectlError } from "../../../core/errors.ts";

/** A server that asks for more patience than this is not waited for. */
const MAX_RETRY_AFTER_MS = 120_000;
const MAX_DELAY_MS = 30_000;

/** A failure that may be gone the next time; when it is not, `failure` is what the user gets. */
export class TransientFailure extends Error {
  override readonly name = "TransientFailure";
  readonly failure: FirectlError;
  /** What the server asked for. */
  readonly retryAfterMs: number | undefined;

  constructor(failure: FirectlError, retryAfterMs?: number) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface RetryOptions {
  readonly attempts: number;
  /** Before the second attempt; doubled each time, with up to half of it added at random. */
  readonly firstDelayMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onRetry?: (reason: string, delayMs: number) => void;
}

/**
 * Calls `attempt` until it does not throw a {@link TransientFailure}.
 * @throws FirectlError what the last failure was; anything else at once.
 */
export async function withRetries<T>(options: RetryOptions, attempt: () => Promise<T>): Promise<T> {
  for (let count = 1; ; count++) {
    try {
      return await attempt();
    } catch (error) {
      await pauseBeforeRetry(error, { ...options, count });
    }
  }
}

/**
 * Waits as long as attempt number `count` having failed with `error` asks for.
 * @throws what is to be reported instead when it must not be tried again.
 */
export async function pauseBeforeRetry(
  error: unknown,
  options: RetryOptions & { count: number },
): Promise<void> {
  if (!(error instanceof TransientFailure)) throw error;
  options.signal?.throwIfAborted();
  if (options.count >= options.attempts) throw error.failure;
  const asked = error.retryAfterMs;
  if (asked !== undefined && asked > MAX_RETRY_AFTER_MS) throw error.failure;
  const backoff = Math.min(options.firstDelayMs * 2 ** (options.count - 1), MAX_DELAY_MS);
  const delayMs = Math.round(Math.max(asked ?? 0, backoff * (1 + Math.random() / 2)));
  options.onRetry?.(error.failure.message, delayMs);
  // The reason of the abort is thrown by whoever owns the signal, not the timer's own error.
  await sleep(delayMs, undefined, options.signal === undefined ? {} : { signal: options.signal }).catch(
    () => {},
  );
  options.signal?.throwIfAborted();
}

/** Milliseconds that a Retry-After header asks for, https://www.rfc-editor.org/rfc/rfc9110#field.retry-after */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header.trim()) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** Also of hosts that a link or a route comes back to. */
const TRANSIENT = new Set([
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
  "ENETUNREACH",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ERR_STREAM_PREMATURE_CLOSE",
]);

/** Whether a connection that failed so may work the next time. */
export function isTransientErrno(errno: string | undefined): boolean {
  return errno !== undefined && (TRANSIENT.has(errno) || errno.startsWith("HPE_"));
}
