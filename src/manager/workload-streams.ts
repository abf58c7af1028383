import type { FileHandle } from "node:fs/promises";
import { FirectlError } from "../core/errors.ts";
import { LatestValue } from "../core/latest-value.ts";
import type { GuestClient } from "../guest/client.ts";
import { OutputReader } from "../guest/output-reader.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { OutputChunk, TerminalSize } from "./api.ts";
import { consoleSizeOf } from "./session.ts";

/** A reader that takes this long over a piece of output is one that the workload must be held back for. */
const SLOW_READER_MS = 20;
/** Whoever has read this much of what the drive holds reads a workload that may be faster than it. */
const MUCH_OUTPUT = 1 / 16;
/** How often the guest is told how far the output has been taken: it waits once half of it is not. */
const TAKEN_STEP = 1 / 64;

export interface StreamsOptions {
  readonly drive: FileHandle;
  /** Where on the drive the output begins; from now on when absent. */
  readonly position?: number;
  /** Settles when the workload has ended. */
  readonly ended: Promise<unknown>;
}

/**
 * The streams of a running workload. Its output is read from the control drive, which has all of it whatever
 * becomes of the guest; the agent is told how far it has been read once that matters, since it holds the
 * workload back then. Input and sizes go to the agent.
 */
export class WorkloadStreams implements AsyncDisposable {
  readonly #record: VmRecord;
  readonly #options: StreamsOptions;
  readonly #closed = new AbortController();
  readonly #taken = new LatestValue<number>();
  #guest: Promise<GuestClient> | undefined;
  #attached = false;

  constructor(record: VmRecord, options: StreamsOptions) {
    this.#record = record;
    this.#options = options;
  }

  async *output(): AsyncGenerator<OutputChunk, void> {
    const { drive, ended, position = await OutputReader.endOf(drive) } = this.#options;
    const reader = new OutputReader(drive, position);
    const capacity = await reader.capacity();
    let told = position;
    for await (const entry of reader.follow({ ended, signal: this.#closed.signal })) {
      if (!("data" in entry)) continue;
      const timer = setTimeout(() => this.#attach(told), SLOW_READER_MS);
      try {
        yield entry;
      } finally {
        clearTimeout(timer);
      }
      if (reader.position - position > capacity * MUCH_OUTPUT) this.#attach(told);
      if (reader.position - told < capacity * TAKEN_STEP) continue;
      told = reader.position;
      this.#taken.set(told);
    }
  }

  /** Lets the agent hold the workload back for us, from `position` on; once. */
  #attach(position: number): void {
    if (this.#attached || this.#closed.signal.aborted) return;
    this.#attached = true;
    // When it fails, the output is read all the same, without anybody waiting for us.
    this.#client()
      .then((guest) => guest.attach({ position, taken: this.#taken, signal: this.#closed.signal }))
      .catch(() => {});
  }

  async sendInput(source: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#record.workload?.session?.openStdin !== true) {
      throw new FirectlError("WRONG_STATE", `${this.#record.name} was started without an input`, {
        hint: "start it with -i",
      });
    }
    await (await this.#client()).input(source, { signal: this.#closed.signal });
  }

  async resize(size: TerminalSize): Promise<void> {
    await (await this.#client()).resize(consoleSizeOf(size), { signal: this.#closed.signal });
  }

  async signal(number: number): Promise<void> {
    await (await this.#client()).signal(number);
  }

  /** gRPC is loaded with the first that needs it: most processes end without. */
  #client(): Promise<GuestClient> {
    this.#guest ??= import("./guest-access.ts").then(({ connectGuest }) => connectGuest(this.#record));
    return this.#guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#taken.end();
    this.#closed.abort(new FirectlError("INTERRUPTED", "the session has been closed"));
    (await this.#guest)?.close();
  }
}
