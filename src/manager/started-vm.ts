import type { VmId } from "../core/brands.ts";
import { mark } from "../core/trace.ts";
import { OutputReader } from "../guest/output-reader.ts";
import { parseSignal } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { VmmName } from "../vmm/vmm.ts";
import type { ExitReport, OutputChunk, StartedVm, StartTimings } from "./api.ts";
import type { BootedVm } from "./boot-vm.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { endedStatus, endOf, exitReportOf } from "./exit-report.ts";
import { endVm } from "./finish-vm.ts";
import { vmIdOf } from "./records.ts";
import { settleEndedVm } from "./settle-vm.ts";

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
  readonly exit: Promise<ExitReport>;
  readonly #context: Context;
  readonly #record: VmRecord;
  readonly #booted: BootedVm;
  readonly #workloadEnded: Promise<ExitReport>;
  readonly #stop = new AbortController();
  readonly #outputPosition: number;
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
    this.#outputPosition = options.outputPosition;
    this.#workloadEnded = this.#watchWorkload();
    this.exit = this.#settle();
    // Both are awaited only by those who ask; until then a failure is not an unhandled one.
    this.#workloadEnded.catch(() => {});
    this.exit.catch(() => {});
  }

  timings(): StartTimings {
    return this.#timings;
  }

  async *output(): AsyncIterable<OutputChunk> {
    const reader = new OutputReader(this.#booted.watch.drive, this.#outputPosition);
    for await (const entry of reader.follow({ ended: this.#workloadEnded })) {
      if ("data" in entry) yield entry;
    }
  }

  async signal(signal: string): Promise<void> {
    const number = parseSignal(signal);
    // gRPC is loaded for this alone: most processes end without a signal.
    const { connectGuest } = await import("./guest-access.ts");
    using guest = connectGuest(this.#record);
    await guest.signal(number);
  }

  async #watchWorkload(): Promise<ExitReport> {
    const startedAt = performance.now();
    const end = await this.#booted.watch.until(({ status, vmmAlive }) => {
      const ended = endedStatus(status);
      if (ended !== undefined) return endOf(ended);
      return vmmAlive ? undefined : endOf(status);
    }, this.#stop.signal);
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
    await this.exit.catch(() => {});
    await this.#booted[Symbol.asyncDispose]();
    if (!this.#record.attached || this.#settled) return;
    if (this.#record.restarted) await endVm(this.#context, this.#record);
    else await destroyVm(this.#context, this.#record.id, (current) => current.state === "running");
  }
}
