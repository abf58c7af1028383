import { appendFileSync } from "node:fs";
import { mark, traceSoFar } from "../core/trace.ts";

/**
 * Appends the trace of this process to `file` as one line of JSON: `monotonicMs`, the process's begin on
 * CLOCK_MONOTONIC, and the marks in milliseconds since then.
 */
export function writeTrace(file: string): void {
  mark("end");
  const monotonicMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  appendFileSync(file, `${JSON.stringify({ monotonicMs, marks: traceSoFar() })}\n`);
}
