import os from "node:os";
import { ratios, spread } from "./statistics.mjs";

/** Prints what the figures depend on; a busy machine is named as one. */
export function introduce(title) {
  const cpus = os.cpus();
  const [load] = os.loadavg();
  console.log(`${title}\n`);
  console.log(`Node ${process.version}, ${cpus.length} × ${cpus[0]?.model.trim()}, load ${load.toFixed(1)}`);
  if (load > cpus.length / 2) console.log("The machine is busy: trust ratios only, and those little.");
}

/**
 * Prints a Markdown table of `results` (a Map of name → samples): median and extremes in milliseconds, the ratio
 * to each of the ways named in `beside`, and what else was measured.
 */
export function printTable(results, { title, beside = [] }) {
  const bases = beside.filter((name) => results.has(name));
  const all = [...results.values()].flat();
  const figures = [
    { title: "cpu ms", figure: "cpuMs", unit: 1 },
    { title: "peak MB", figure: "peakBytes", unit: 1e6 },
    { title: "on disk MB", figure: "diskBytes", unit: 1e6 },
  ].filter(({ figure }) => all.some((sample) => sample[figure] !== undefined));
  const header = [title, "ms", "least–most", ...bases.map((name) => `× ${shortName(name)}`)];
  const rows = [...results].map(([name, samples]) => [
    name,
    ...timeColumns(samples),
    ...bases.map((base) => figureText(spread(ratios(samples, results.get(base))).median)),
    ...figures.map((column) => medianText(samples, column)),
  ]);
  printMarkdown([...header, ...figures.map((column) => column.title)], rows);
}

/** Prints rows of text as a Markdown table whose columns line up. */
export function printMarkdown(header, rows) {
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  console.log(`\n${line(header)}`);
  console.log(line(widths.map((width) => "-".repeat(width))));
  for (const row of rows) console.log(line(row));
}

/**
 * Prints a verdict on each target, and makes the exit status 1 if one is missed. A target is
 * `{ way, beside, atMost }`: the way's time over the other one's; or `{ way, figure, unit, atMost }`: a figure of
 * its own, such as `peakBytes`.
 */
export function judge(results, targets) {
  console.log("");
  for (const target of targets) {
    const { way, beside, atMost } = target;
    const limit = beside === undefined ? `${atMost} ${target.unit}` : `${atMost} × ${shortName(beside)}`;
    const missing = [way, beside].find((name) => name !== undefined && !results.has(name));
    if (missing !== undefined) {
      console.log(`not judged: ${way} ≤ ${limit} (no ${missing})`);
      continue;
    }
    const { median, least, most } = spread(valuesFor(results, target));
    const isMet = median <= atMost;
    const figures = `${figureText(median)} (${figureText(least)}–${figureText(most)})`;
    console.log(`${isMet ? "met" : "MISSED"}: ${way} ≤ ${limit}: ${figures}`);
    if (!isMet) process.exitCode = 1;
  }
}

const UNITS = { MB: 1e6, ms: 1, million: 1e6 };

function valuesFor(results, { way, beside, figure = "ms", unit }) {
  const samples = results.get(way);
  if (beside !== undefined) return ratios(samples, results.get(beside), figure);
  return samples.map((sample) => sample[figure] / UNITS[unit]);
}

function timeColumns(samples) {
  const { median, least, most } = spread(samples.map(({ ms }) => ms));
  return [figureText(median), `${figureText(least)}–${figureText(most)}`];
}

function medianText(samples, { figure, unit }) {
  const values = samples.map((sample) => sample[figure]).filter((value) => value !== undefined);
  return values.length === 0 ? "" : figureText(spread(values).median / unit);
}

/** Three significant digits, and no fraction of a large number. */
export function figureText(value) {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(value >= 10 ? 3 : 2);
}

/** What stands before the brackets in which a name is explained. */
function shortName(name) {
  return name.split(" (")[0];
}
