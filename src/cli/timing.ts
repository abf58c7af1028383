import type { StartTimings } from "../manager/api.ts";
import { renderTable } from "./table.ts";
import { formatMs } from "./time-text.ts";

const STAGES: readonly (readonly [keyof StartTimings, string])[] = [
  ["loadMs", "load"],
  ["pullMs", "pull"],
  ["buildMs", "build"],
  ["prepareMs", "prepare"],
  ["vmmMs", "VMM start"],
  ["earlyMs", "kernel load"],
  ["kernelMs", "kernel"],
  ["initMs", "init"],
  ["workloadMs", "workload"],
  ["settleMs", "clean up"],
];

/** The table of `--timing`: stages that did not happen are left out, what no stage accounts for is "other". */
export function renderTimings(timings: StartTimings): string {
  const rows = STAGES.flatMap(([key, label]) => {
    const ms = timings[key];
    return ms === undefined ? [] : [{ label, ms }];
  });
  const { loadMs = 0, workloadMs = 0, settleMs = 0 } = timings;
  const totalMs = loadMs + timings.totalMs + workloadMs + settleMs;
  const other = totalMs - rows.reduce((sum, row) => sum + row.ms, 0);
  if (other >= 1) rows.push({ label: "other", ms: other });
  const cells = [...rows, { label: "total", ms: totalMs }].map((row) => ({
    label: row.label,
    time: formatMs(row.ms),
  }));
  const width = Math.max(...cells.map((cell) => cell.time.length), "TIME".length);
  return renderTable([
    ["STAGE", "TIME".padStart(width)],
    ...cells.map((cell) => [cell.label, cell.time.padStart(width)]),
  ]);
}
