import { type FSWatcher, watch } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { descriptorPath } from "../host/files.ts";

/** Covers for events that the kernel drops when its queue is full. */
const POLL_WITH_EVENTS_MS = 250;
/** Where there are no events to be had at all: the limit on watches, a filesystem without them. */
const POLL_WITHOUT_EVENTS_MS = 20;

/**
 * Tells when a file has been written, whoever wrote it. Watches through the descriptor, so that a file that
 * has been unlinked or renamed is still the right one.
 */
export class FileChanges implements Disposable {
  readonly #watcher: FSWatcher | undefined;
  #pollMs = POLL_WITH_EVENTS_MS;
  #changed = false;
  #wake: (() => void) | undefined;

  constructor(handle: FileHandle) {
    this.#watcher = this.#startWatching(handle.fd);
  }

  #startWatching(fd: number): FSWatcher | undefined {
    const giveUp = (): void => {
      this.#pollMs = POLL_WITHOUT_EVENTS_MS;
    };
    try {
      return watch(descriptorPath(fd), { persistent: false }, () => this.#notify()).on("error", giveUp);
    } catch {
      giveUp();
      return undefined;
    }
  }

  #notify(): void {
    this.#changed = true;
    this.#wake?.();
  }

  /** Resolves at the next write, at once when there was one since the last call, and now and then anyway. */
  async next(signal: AbortSignal): Promise<void> {
    if (!this.#changed && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        const timer = setTimeout(wake, this.#pollMs);
        this.#wake = wake;
        signal.addEventListener("abort", wake, { once: true });
      });
      this.#wake = undefined;
    }
    this.#changed = false;
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}
