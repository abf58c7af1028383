/**
 * The items of several sources as they come, each source in its own order. Ends when all have ended; when one
 * fails or the loop is left, the others are told to end.
 */
export async function* mergeAsync<T>(...sources: readonly AsyncIterable<T>[]): AsyncGenerator<T, void> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const pending = new Map(iterators.map((iterator) => [iterator, nextOf(iterator)]));
  try {
    while (pending.size > 0) {
      const { iterator, result } = await Promise.race(pending.values());
      if (result.done === true) {
        pending.delete(iterator);
      } else {
        pending.set(iterator, nextOf(iterator));
        yield result.value;
      }
    }
  } finally {
    // Not awaited: a source that waits for its next item only ends after that.
    for (const iterator of pending.keys()) void iterator.return?.()?.catch(() => {});
  }
}

function nextOf<T>(
  iterator: AsyncIterator<T>,
): Promise<{ iterator: AsyncIterator<T>; result: IteratorResult<T> }> {
  const next = iterator.next().then((result) => ({ iterator, result }));
  // Whoever waits for it hears of its failure; after the loop nobody does.
  next.catch(() => {});
  return next;
}
