import { FirectlError } from "../core/errors.ts";
import type { CliIo, CliSignal } from "./io.ts";
import { signalNumber } from "./values.ts";

/** What the signals of this process do to the command that runs. */
export interface Interrupts {
  /**
   * Aborts with INTERRUPTED at the first signal; the second ends the process at once, for whoever does not
   * want to wait until everything is undone. Nothing is caught before this is asked for.
   */
  signal(): AbortSignal;
  /** From here on signals go to `handler` instead. Returns how to stop that. */
  takeOver(handler: (signal: CliSignal) => void): () => void;
  /** The first signal that aborted the command. */
  received(): CliSignal | undefined;
  /** Stops catching signals. */
  release(): void;
}

/** Exit status of a command that a signal has ended, as shells count: 128 + n. */
export function interruptedStatus(signal: CliSignal): number {
  return 128 + signalNumber(signal);
}

export function createInterrupts(io: CliIo): Interrupts {
  let controller: AbortController | undefined;
  let received: CliSignal | undefined;
  let stopCatching: (() => void) | undefined;
  let owner: ((signal: CliSignal) => void) | undefined;

  const onSignal = (signal: CliSignal): void => {
    if (owner !== undefined) {
      owner(signal);
    } else if (received === undefined) {
      received = signal;
      controller?.abort(new FirectlError("INTERRUPTED", `interrupted by ${signal}`));
    } else {
      io.exitNow(interruptedStatus(signal));
    }
  };
  return {
    signal() {
      stopCatching ??= io.onSignal(onSignal);
      controller ??= new AbortController();
      return controller.signal;
    },
    takeOver(handler) {
      stopCatching ??= io.onSignal(onSignal);
      owner = handler;
      return () => {
        owner = undefined;
      };
    },
    received: () => received,
    release() {
      stopCatching?.();
      stopCatching = undefined;
    },
  };
}
