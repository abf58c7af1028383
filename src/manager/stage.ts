import { FirectlError } from "../core/errors.ts";

/**
 * Runs one stage of a longer operation; a failure then says which stage it was.
 * @param stage Completes "… failed", for instance `building the root filesystem of debian:12`.
 */
export async function inStage<T>(stage: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // A subclass is an error of its own kind, with more than a message: it stays what it is.
    if (!(error instanceof FirectlError) || error.constructor !== FirectlError) throw error;
    if (error.code === "INTERRUPTED") {
      throw new FirectlError("INTERRUPTED", `interrupted while ${stage}`, { cause: error });
    }
    throw new FirectlError(error.code, `${stage} failed: ${error.message}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}

/** Two pieces of work side by side; when one fails the other is aborted and waited for, so nothing runs on. */
export async function bothOrNeither<A, B>(
  signal: AbortSignal | undefined,
  first: (signal: AbortSignal) => Promise<A>,
  second: (signal: AbortSignal) => Promise<B>,
): Promise<[A, B]> {
  const controller = new AbortController();
  const linked = signal === undefined ? controller.signal : AbortSignal.any([signal, controller.signal]);
  const abortOther = (error: unknown): never => {
    controller.abort(new FirectlError("INTERRUPTED", "given up because another part failed"));
    throw error;
  };
  const running = [first(linked).catch(abortOther), second(linked).catch(abortOther)] as const;
  try {
    return await Promise.all(running);
  } catch (error) {
    await Promise.allSettled(running);
    throw error;
  }
}
