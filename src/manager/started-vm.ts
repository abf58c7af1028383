import type { VmId } from "../core/brands.ts";
import { mark } from "../core/trace.ts";
import { parseSignal } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { VmmName } from "../vmm/vmm.ts";
import type { ExitReport, OutputChunk, StartedVm, StartTimings, TerminalSize } from "./api.ts";
import type { BootedVm } from "./boot-vm.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { detachVm } from "./detach-vm.ts";
import { endSeen, exitReportOf } from "./exit-report.ts";
import { endVm } from "./finish-vm.ts";
import { vmIdOf } from "./records.ts";
import { settleEndedVm } from "./settle-vm.ts";
import { WorkloadStreams } from "./workload-streams.ts";

export interface AttendedVmOptions {
  readonly record: VmRecord;
  readonly booted: BootedVm;
  readonly vmm: VmmName;
  /** Where on the control drive this life's output begins. */
  readonly outputPosition: number;
  readonly timings: StartTimings;
}

/** A VM from `run` or `start`, in the hands of the process that started it. */
export class AttendedVm implements StartedVm {
  readonly id: VmId;
  readonly name: string;
  readonly vmm: VmmName;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly exit: Promise<ExitReport>;
  readonly #context: Context;
  readonly #record: VmRecord;
  readonly #booted: BootedVm;
  readonly #workloadEnded: Promise<ExitReport>;
  readonly #stop = new AbortController();
  readonly #streams: WorkloadStreams;
  #belongsToUs: boolean;
  #timings: StartTimings;
  #settled = false;

  constructor(context: Context, options: AttendedVmOptions) {
    this.id = vmIdOf(options.record);
    this.name = options.record.name;
    this.vmm = options.vmm;
    this.#context = context;
    this.#record = options.record;
    this.#booted = options.booted;
    this.#timings = options.timings;
    this.tty = options.record.workload?.session?.tty ?? false;
    this.openStdin = options.record.workload?.session?.openStdin ?? false;
    this.#belongsToUs = options.record.attached;
    this.#workloadEnded = this.#watchWorkload();
    this.#streams = new WorkloadStreams(options.record, {
      drive: options.booted.watch.drive,
      position: options.outputPosition,
      ended: this.#workloadEnded,
    });
    this.exit = this.#settle();
    // Both are awaited only by those who ask; until then a failure is not an unhandled one.
    this.#workloadEnded.catch(() => {});
    this.exit.catch(() => {});
  }

  timings(): StartTimings {
    return this.#timings;
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

  async detach(): Promise<void> {
    if (!this.#belongsToUs) return;
    await detachVm(this.#context, this.#record);
    this.#belongsToUs = false;
  }

  async #watchWorkload(): Promise<ExitReport> {
    const startedAt = performance.now();
    const end = await this.#booted.watch.until(endSeen, this.#stop.signal);
    mark("workload ended");
    this.#timings = { ...this.#timings, workloadMs: performance.now() - startedAt };
    return exitReportOf(end);
  }

  async #settle(): Promise<ExitReport> {
    const report = await this.#workloadEnded;
    const endedAt = performance.now();
    await settleEndedVm(this.#context, this.#record);
    this.#timings = { ...this.#timings, settleMs: performance.now() - endedAt };
    mark("settled");
    this.#settled = true;
    return report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#streams[Symbol.asyncDispose]();
    await this.exit.catch(() => {});
    await this.#booted[Symbol.asyncDispose]();
    if (!this.#belongsToUs || this.#settled) return;
    if (this.#record.restarted) await endVm(this.#context, this.#record);
    else await destroyVm(this.#context, this.#record.id, (current) => current.state === "running");
  }
}
