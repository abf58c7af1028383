import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { FirectlError } from "../core/errors.ts";
import { type OutputEvent, OutputReader } from "../guest/output-reader.ts";
import { ioError } from "../host/files.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { LogEntry, LogsOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { endedStatus } from "./exit-report.ts";
import { GuestWatch } from "./guest-watch.ts";
import { isVmmAlive } from "./records.ts";
import { tailOf } from "./tail.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** How often a followed console is looked at: it is for people who watch a boot. */
const CONSOLE_INTERVAL_MS = 100;
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
  await using watch = await openDrive(controlDrive, record);
  if (watch === undefined) return;
  const reader = new OutputReader(watch.drive);
  const stored = inPeriod(entriesOf(reader.available()), options);
  yield* options.tail === undefined ? stored : tailOf(stored, options.tail);
  if (!(options.follow ?? false)) return;
  const stop = new AbortController();
  options.signal?.addEventListener("abort", () => stop.abort(), { once: true });
  const ended = watch.until(
    ({ status, vmmAlive }) => (endedStatus(status) !== undefined || !vmmAlive ? true : undefined),
    stop.signal,
  );
  ended.catch(() => {});
  try {
    yield* inPeriod(entriesOf(reader.follow({ ended, signal: options.signal })), options);
  } finally {
    stop.abort();
  }
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

async function* inPeriod(entries: AsyncIterable<LogEntry>, options: LogsOptions): AsyncIterable<LogEntry> {
  for await (const entry of entries) {
    if (options.sinceUnixNs !== undefined && entry.timeUnixNs < options.sinceUnixNs) continue;
    if (options.untilUnixNs !== undefined && entry.timeUnixNs > options.untilUnixNs) continue;
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
