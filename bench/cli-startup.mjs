// What the start of the command line costs over a bare Node: alternating runs, medians.
//
//   npm run build && node bench/cli-startup.mjs [ROUNDS]
//
// The bar: --version and list of an empty state cost at most 12 ms over `node -e 0`. NODE_EXTRA_CA_CERTS is
// taken out of the environment, since it alone costs Node some 30 ms where it is set. On a busy machine the
// clock measures the others: then the processors' time (user and system, mean) is held against the bar.
import { spawnSync } from "node:child_process";
import os from "node:os";
import { directoriesBelow, FIRECTL, plainEnvironment } from "./lib/programs.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { mean, median } from "./lib/statistics.mjs";

const BAR_MS = 12;
const WARM_UP_ROUNDS = 3;
const rounds = Number(process.argv[2] ?? 40);
const cases = [
  { name: "node -e 0", argv: ["-e", "0"] },
  { name: "firectl --version", argv: [FIRECTL, "--version"], bar: BAR_MS },
  { name: "firectl list", argv: [FIRECTL, "list"], bar: BAR_MS },
  { name: "firectl --help", argv: [FIRECTL, "--help"] },
];

await withScratch(async ({ directory }) => {
  const env = plainEnvironment({ HOME: directory, ...directoriesBelow(directory) });
  const ways = cases.map((entry) => ({ ...entry, run: () => runFirectl(entry.argv, env) }));
  const samples = await alternate(ways, { rounds, warmUp: WARM_UP_ROUNDS, writesMuch: false });
  report(cases.map((entry) => ({ ...entry, ...figuresOf(samples.get(entry.name)) })));
});

function runFirectl(argv, env) {
  const result = spawnSync(process.execPath, argv, { env, stdio: ["ignore", "pipe", "pipe"] });
  if (result.status !== 0) throw new Error(`${argv.join(" ")} failed: ${result.stderr}`);
}

function figuresOf(samples) {
  return { wall: median(samples.map(({ ms }) => ms)), cpu: mean(samples.map(({ cpuMs }) => cpuMs)) };
}

function report(results) {
  const [bare] = results;
  const isBusy = os.loadavg()[0] > os.availableParallelism() / 2;
  for (const { name, wall, cpu, bar } of results) {
    const overWall = wall - bare.wall;
    const overCpu = cpu - bare.cpu;
    const line = `${figure(wall)} ms ${signed(overWall)}   cpu ${figure(cpu)} ms ${signed(overCpu)}`;
    console.log(`${name.padEnd(18)} ${line}`);
    if ((isBusy ? overCpu : overWall) <= (bar ?? Number.POSITIVE_INFINITY)) continue;
    console.error(`${name} is over the bar of ${bar} ms`);
    process.exitCode = 1;
  }
  if (isBusy) console.log(`(load ${os.loadavg()[0].toFixed(1)}: judged by the processors' time)`);
}

function figure(ms) {
  return ms.toFixed(1).padStart(6);
}

function signed(ms) {
  return `${ms >= 0 ? "+" : "-"}${Math.abs(ms).toFixed(1)}`.padStart(6);
}
