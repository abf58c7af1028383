import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { FirectlError } from "../core/errors.ts";
import { MAX_TIMER_MS } from "../core/units.ts";
import { type OutputEvent, OutputReader } from "../guest/output-reader.ts";
import { ioError } from "../host/files.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { LogEntry, LogsOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { endSeen } from "./exit-report.ts";
import { GuestWatch } from "./guest-watch.ts";
import { isVmmAlive, livesNow } from "./records.ts";
import { tailOf } from "./tail.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** How often a followed console is looked at: it is for people who watch a boot. */
const CONSOLE_INTERVAL_MS = 100;
/** How often a start that is under way is looked at. */
const RESTART_INTERVAL_MS = 100;
const CONSOLE_CHUNK_BYTES = 64 * 1024;

/** The workload's output as it stands on the control drive, then as it comes with `follow`. */
export async function* readLogs(
  context: Context,
  record: VmRecord,
  options: LogsOptions,
): AsyncIterable<LogEntry> {
  const { controlDrive } = vmPathsOf(context.directories, record.id);
  if (record.workload === null) {
    throw new FirectlError(
      "UNSUPPORTED",
      `${record.name} was made from a Firecracker configuration: its output is its console`,
      {
        hint: `firectl logs --console ${record.name}`,
      },
    );
  }
  await using drive = await openDrive(controlDrive, record);
  if (drive === undefined) return;
  const reader = new OutputReader(drive.drive);
  let isOver = false;
  const period = {
    ...options,
    onOver(): void {
      isOver = true;
    },
  };
  const stored = inPeriod(entriesOf(reader.available()), period);
  yield* options.tail === undefined ? stored : tailOf(stored, options.tail);
  if (!(options.follow ?? false) || isOver || msUntilEnd(options) <= 0) return;
  for (
    let run: VmRecord | undefined = record;
    run !== undefined;
    run = await nextRun(context, run, options)
  ) {
    await using watch = await openDrive(controlDrive, run);
    if (watch === undefined) return;
    yield* inPeriod(entriesOf(followRun(reader, watch, options)), period);
    if (isOver) return;
  }
}

/** What a run of the VM writes, to its end or to the moment asked for. */
async function* followRun(
  reader: OutputReader,
  watch: GuestWatch,
  options: LogsOptions,
): AsyncGenerator<OutputEvent, void> {
  const { signal } = options;
  const stop = new AbortController();
  signal?.addEventListener("abort", () => stop.abort(), { once: true });
  const ended = Promise.race([watch.until(endSeen, stop.signal), endOfPeriod(options, stop.signal)]);
  ended.catch(() => {});
  try {
    yield* reader.follow({ ended, signal });
  } finally {
    stop.abort();
  }
}

/** How long it is to the end of the period asked for, by this machine's clock. */
function msUntilEnd({ untilUnixNs }: LogsOptions): number {
  return untilUnixNs === undefined ? Number.POSITIVE_INFINITY : Number(untilUnixNs / 1_000_000n) - Date.now();
}

/** Resolves when the period asked for has passed: a guest that says nothing does not tell. */
async function endOfPeriod(options: LogsOptions, signal: AbortSignal): Promise<void> {
  for (let left = msUntilEnd(options); left > 0; left = msUntilEnd(options)) {
    await sleep(Math.min(left, MAX_TIMER_MS), undefined, { signal });
  }
}

/** The VM as it has been started again by the time that its end is seen; undefined when it has not. */
async function nextRun(
  context: Context,
  last: VmRecord,
  options: LogsOptions,
): Promise<VmRecord | undefined> {
  while (msUntilEnd(options) > 0) {
    const now = (await context.vms.read()).find(({ id }) => id === last.id);
    const isAnother = now?.startedAt !== last.startedAt;
    if (now?.state === "running") return isAnother ? now : undefined;
    // Somebody is starting it, or at work on its disk.
    if (now?.state !== "creating" || !livesNow(now, now.owner)) return undefined;
    await sleep(RESTART_INTERVAL_MS, undefined, { signal: options.signal });
  }
  return undefined;
}

async function openDrive(controlDrive: string, record: VmRecord): Promise<GuestWatch | undefined> {
  try {
    // A VMM that has ended is not alive under any start time: 0 is that of no process.
    return await GuestWatch.open(controlDrive, record.process ?? { pid: process.pid, startTime: 0 });
  } catch (error) {
    // A VM that is being made has not said anything.
    if (error instanceof FirectlError && error.code === "FILE_NOT_FOUND") return undefined;
    throw error;
  }
}

async function* entriesOf(events: AsyncIterable<OutputEvent>): AsyncIterable<LogEntry> {
  for await (const event of events) if ("data" in event) yield event;
}

/** Ends, and calls `onOver`, at the first entry past the period. */
async function* inPeriod(
  entries: AsyncIterable<LogEntry>,
  options: LogsOptions & { readonly onOver: () => void },
): AsyncIterable<LogEntry> {
  for await (const entry of entries) {
    if (options.sinceUnixNs !== undefined && entry.timeUnixNs < options.sinceUnixNs) continue;
    if (options.untilUnixNs !== undefined && entry.timeUnixNs > options.untilUnixNs) {
      options.onOver();
      return;
    }
    yield entry;
  }
}

/** The serial console of the guest as the VMM wrote it, then as it comes with `follow`. */
export async function* readConsole(
  context: Context,
  record: VmRecord,
  options: { follow?: boolean; signal?: AbortSignal },
): AsyncIterable<Uint8Array> {
  const file = vmPathsOf(context.directories, record.id).console;
  await using handle = await openConsole(file);
  for (let position = 0; ; ) {
    const isLast = !(options.follow ?? false) || !isVmmAlive(record);
    const { bytesRead, buffer } = await handle.read(
      Buffer.alloc(CONSOLE_CHUNK_BYTES),
      0,
      CONSOLE_CHUNK_BYTES,
      position,
    );
    if (bytesRead > 0) {
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    } else if (isLast) {
      return;
    } else {
      await sleep(CONSOLE_INTERVAL_MS, undefined, { signal: options.signal });
    }
  }
}

async function openConsole(file: string): ReturnType<typeof open> {
  try {
    return await open(file, "r");
  } catch (error) {
    throw ioError(`cannot open the console log ${file}`, error);
  }
}
