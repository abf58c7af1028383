/**
 * Values of which only the newest counts: whoever iterates gets each at most once, and skips those that were
 * replaced while it was busy. One reader.
 */
export class LatestValue<T> implements AsyncIterable<T> {
  #pending: { readonly value: T } | undefined;
  #ended = false;
  #wake: (() => void) | undefined;

  /** Replaces what has not been read yet. Does nothing after {@link end}. */
  set(value: T): void {
    if (this.#ended) return;
    this.#pending = { value };
    this.#wake?.();
  }

  /** Ends the iteration once the newest value has been read. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      const pending = this.#pending;
      if (pending !== undefined) {
        this.#pending = undefined;
        yield pending.value;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    }
  }
}
