/**
 * A source that is opened before its turn, so that whoever feeds it can begin: its first chunk is asked for, and
 * how far it gets beyond that is its own matter.
 */
export class ReadAhead implements AsyncDisposable {
  readonly #controller: AbortController = new AbortController();
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #first: Promise<IteratorResult<Uint8Array>>;

  constructor(open: (signal: AbortSignal) => AsyncIterable<Uint8Array>) {
    this.#iterator = open(this.#controller.signal)[Symbol.asyncIterator]();
    this.#first = this.#iterator.next();
    // Whoever reads the chunks learns of a failure; it may be that nobody does.
    this.#first.catch(() => {});
  }

  /** The source's chunks from its first on; each is valid until the next one is asked for. One reader only. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (let next = await this.#first; next.done !== true; next = await this.#iterator.next())
      yield next.value;
  }

  /** Stops the source and waits until it has let go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort();
    await this.#first.catch(() => {});
    await this.#iterator.return?.().catch(() => {});
  }
}
