/**
 * Undo steps, run last in first out. Node 20 has no AsyncDisposableStack; this is the part of it that
 * firectl needs, and the first error is never hidden: later ones are attached to it.
 */
export class CleanupStack implements AsyncDisposable {
  #steps: Array<() => unknown> = [];

  /** Registers `step`, which may be asynchronous, to run when the stack is disposed. */
  defer(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** Registers a resource and returns it. */
  use<T extends AsyncDisposable>(resource: T): T {
    this.defer(() => resource[Symbol.asyncDispose]());
    return resource;
  }

  /** Hands all steps to a new stack: from here on they are someone else's. */
  move(): CleanupStack {
    const moved = new CleanupStack();
    moved.#steps = this.#steps;
    this.#steps = [];
    return moved;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, "several cleanup steps failed");
  }
}
