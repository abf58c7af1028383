import type { VmId } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { parseSignal } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ExitReport, OutputChunk, TerminalSize, WorkloadSession } from "./api.ts";
import type { Context } from "./context.ts";
import { endSeen, exitReportOf } from "./exit-report.ts";
import { GuestWatch } from "./guest-watch.ts";
import { requireState, vmIdOf } from "./records.ts";
import { vmPathsOf } from "./vm-paths.ts";
import { WorkloadStreams } from "./workload-streams.ts";

/**
 * Joins a running workload, beside the process that started it and others that have joined.
 * @throws FirectlError WRONG_STATE unless it runs, UNSUPPORTED when it was made from a Firecracker configuration.
 */
export async function attachToVm(context: Context, record: VmRecord): Promise<WorkloadSession> {
  requireState(record, "attach to", ["running"]);
  if (record.workload === null || record.process === null) {
    throw new FirectlError(
      "UNSUPPORTED",
      `${record.name} was made from a Firecracker configuration: its console is all there is of it`,
      { hint: `firectl logs --console ${record.name}` },
    );
  }
  const { controlDrive } = vmPathsOf(context.directories, record.id);
  return new AttachedVm(record, await GuestWatch.open(controlDrive, record.process));
}

/** A VM that somebody else has started. */
class AttachedVm implements WorkloadSession {
  readonly id: VmId;
  readonly name: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly exit: Promise<ExitReport>;
  readonly #watch: GuestWatch;
  readonly #streams: WorkloadStreams;
  readonly #stop = new AbortController();

  constructor(record: VmRecord, watch: GuestWatch) {
    this.id = vmIdOf(record);
    this.name = record.name;
    this.tty = record.workload?.session?.tty ?? false;
    this.openStdin = record.workload?.session?.openStdin ?? false;
    this.#watch = watch;
    this.exit = watch.until(endSeen, this.#stop.signal).then(exitReportOf);
    this.exit.catch(() => {});
    this.#streams = new WorkloadStreams(record, { drive: watch.drive, ended: this.exit });
  }

  output(): AsyncIterable<OutputChunk> {
    return this.#streams.output();
  }

  sendInput(source: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#streams.sendInput(source);
  }

  resize(size: TerminalSize): Promise<void> {
    return this.#streams.resize(size);
  }

  signal(signal: string): Promise<void> {
    return this.#streams.signal(parseSignal(signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FirectlError("INTERRUPTED", "the session has been closed"));
    await this.#streams[Symbol.asyncDispose]();
    await this.exit.catch(() => {});
    await this.#watch[Symbol.asyncDispose]();
  }
}
