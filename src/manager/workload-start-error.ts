import { FirectlError } from "../core/errors.ts";
import type { ExitReport } from "./api.ts";

/** The guest booted but its workload could not be started: not found, not executable, no such user. */
export class WorkloadStartError extends FirectlError {
  /** 125, 126 or 127, as `docker run` gives them. */
  readonly exitStatus: number;

  constructor(report: ExitReport) {
    super("GUEST_FAILED", report.error ?? "the workload could not be started, and the guest did not say why");
    this.exitStatus = report.exitCode;
  }
}
