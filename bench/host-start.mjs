// What the host does between `firectl run` and the guest's start: a cached image, and a VMM stand-in that answers
// Firecracker's API at once, runs nothing and tells when it was asked what (lib/standin-vmm.c, compiled here).
//
//   npm run build && node bench/host-start.mjs [--rounds N] [--stages]
//
// The bar: 40 ms from the first instruction of bin/firectl to InstanceStart, and to the load of the snapshot that a VM
// goes on from, which the warm-up leaves. Node's own start before that, and the stand-in's exec and bind within, are
// shown beside it and are not subtracted. Needs a C compiler, an installed kernel (it is read, not run) and /dev/kvm,
// which is opened and not used. --stages shows where the time of a VM that goes on goes.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openContext } from "../dist/manager/open-context.js";
import { directoriesBelow, FIRECTL, findProgram, plainEnvironment, run } from "./lib/programs.mjs";
import { figureText, introduce, judge, printMarkdown, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { spread } from "./lib/statistics.mjs";
import { endedStatusSlot } from "./lib/status-slot.mjs";
import { END_OF_ARCHIVE, fileEntry } from "./lib/tar.mjs";

const BAR_MS = 40;
const IMAGE = "bench/host-start:1";
const TO_START = "first instruction → the snapshot's load";
const TO_BOOT = "first instruction → InstanceStart";
const { values } = parseArgs({
  options: { rounds: { type: "string", default: "20" }, stages: { type: "boolean", default: false } },
});
const compiler = ["cc", "gcc", "clang"].find((name) => findProgram(name) !== undefined);
if (compiler === undefined) {
  console.error("left out: everything (no C compiler here)");
  process.exit(2);
}
const kernels = path.join((await openContext()).directories.data, "kernels");

await withScratch(async ({ directory, at }) => {
  const standin = compile(at("firecracker"));
  const report = at("report.json");
  const trace = at("trace.jsonl");
  writeFileSync(at("status"), endedStatusSlot());
  const env = plainEnvironment({
    ...directoriesBelow(directory),
    FIRECTL_FIRECRACKER: standin,
    FIRECTL_TRACE: trace,
    STANDIN_REPORT: report,
    STANDIN_STATUS: at("status"),
  });
  mkdirSync(at("data"), { recursive: true });
  symlinkSync(kernels, at("data", "kernels"));
  const tar = Buffer.concat([fileEntry("bin/true", Buffer.from("#!/bin/sh\n")), END_OF_ARCHIVE]);
  run(process.execPath, [FIRECTL, "import", "-q", "-", IMAGE], { env, input: tar });

  introduce(`Host side of a start; ${values.rounds} rounds`);
  const stages = new Map();
  const bare = spawnedAt(["-e", "0"]);
  const ways = [
    { name: "node -e 0, from exec to exit", run: () => bare(env) },
    { name: "stand-in alone, exec to listen", run: () => ({ ms: standinAlone(standin, at("alone.sock")) }) },
    { name: "run", run: (round) => ({ several: startOnce(round, { toStart: TO_START }) }) },
    {
      name: "run --boot-snapshot never",
      run: () => ({
        several: startOnce(-1, {
          toStart: TO_BOOT,
          suffix: ", booting",
          flags: ["--boot-snapshot", "never"],
        }),
      }),
    },
  ];
  const results = await alternate(ways, { rounds: Number(values.rounds), warmUp: 3, writesMuch: false });
  printTable(results, { title: "what" });
  if (values.stages) printStages(stages);
  judge(
    results,
    [TO_START, TO_BOOT].map((way) => ({ way, figure: "ms", unit: "ms", atMost: BAR_MS })),
  );

  /** One `firectl run --rm`, by the clock that all three processes share. */
  function startOnce(round, { toStart, suffix = "", flags = [] }) {
    rmSync(trace, { force: true });
    const spawnedMs = monotonicMs();
    run(FIRECTL, ["run", "--rm", "--vmm", "firecracker", ...flags, IMAGE, "true"], { env });
    const endedMs = monotonicMs();
    const { monotonicMs: begunMs, marks } = JSON.parse(readFileSync(trace, "utf8"));
    const { ran, listened, started, calls } = JSON.parse(readFileSync(report, "utf8"));
    const first = begunMs + marks[0].ms;
    if (round >= 0) noteStages(marks, started - begunMs);
    const figures = [
      ["exec of firectl → its first instruction (sh, Node)", first - spawnedMs],
      [toStart, started - first],
      ["of that, the stand-in's exec to listen", listened - ran],
      [`of that, ${calls} API calls`, started - listened],
      ["start → exit of firectl run --rm", endedMs - started],
      ["all of firectl run --rm", endedMs - spawnedMs],
    ];
    return figures.map(([name, ms]) => ({ name: name === toStart ? name : `${name}${suffix}`, ms }));
  }

  /** The time since the mark before, so that the sum is the whole. */
  function noteStages(marks, startedMs) {
    const all = [...marks, { name: "(InstanceStart at the VMM)", ms: startedMs }].sort((a, b) => a.ms - b.ms);
    let cpuBefore = 0;
    all.forEach(({ name, ms, cpuMs = cpuBefore }, index) => {
      const sample = { at: ms - all[0].ms, took: ms - (all[index - 1]?.ms ?? ms), cpu: cpuMs - cpuBefore };
      cpuBefore = cpuMs;
      stages.set(name, [...(stages.get(name) ?? []), sample]);
    });
  }
});

function compile(output) {
  const source = fileURLToPath(new URL("./lib/standin-vmm.c", import.meta.url));
  run(compiler, ["-O2", "-static", "-o", output, source]);
  // Run from a copy: the compiler's own file may still be open for writing somewhere.
  copyFileSync(output, `${output}.copy`);
  return `${output}.copy`;
}

function spawnedAt(args) {
  return (env) => {
    const { status } = spawnSync(process.execPath, args, { env, stdio: "ignore" });
    if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`);
  };
}

/** From the spawn to the first line of a program that ends at once: what any process costs here. */
function standinAlone(standin) {
  const startedAt = performance.now();
  spawnSync(standin, ["--version"], { stdio: "ignore" });
  return performance.now() - startedAt;
}

function monotonicMs() {
  return Number(process.hrtime.bigint()) / 1e6;
}

function printStages(stages) {
  const rows = [...stages]
    .map(([name, samples]) => ({
      name,
      at: spread(samples.map(({ at }) => at)),
      took: spread(samples.map(({ took }) => took)),
      cpu: spread(samples.map(({ cpu }) => cpu)),
    }))
    .sort((a, b) => a.at.median - b.at.median)
    .map(({ name, at, took, cpu }) => [
      name,
      figureText(at.median),
      figureText(took.median),
      `${figureText(took.least)}–${figureText(took.most)}`,
      figureText(cpu.median),
    ]);
  printMarkdown(["done", "at ms", "since the one before", "least–most", "cpu ms"], rows);
}
