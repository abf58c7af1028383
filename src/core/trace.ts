/** A moment of this process: what had just been done. */
export interface Mark {
  readonly name: string;
  /** Milliseconds since the process began. */
  readonly ms: number;
  /** Milliseconds of the processors that all its threads had used by then. */
  readonly cpuMs: number;
}

let marks: Mark[] | undefined;

/** From here on {@link mark} keeps what it is told. Off until then: a library's process may live for years. */
export function startTrace(): void {
  marks ??= [];
}

/** Notes that `name` has just been done; costs nothing while no trace is kept. */
export function mark(name: string, ms: number = performance.now()): void {
  if (marks === undefined) return;
  const { user, system } = process.cpuUsage();
  marks.push({ name, ms, cpuMs: (user + system) / 1000 });
}

/** What has been noted so far, in the order in which it happened; undefined while no trace is kept. */
export function traceSoFar(): readonly Mark[] | undefined {
  return marks?.toSorted((a, b) => a.ms - b.ms);
}
