// What the start of the command line costs over a bare Node: alternating runs, medians.
//
//   npm run build && node bench/cli-startup.mjs [ROUNDS]
//
// The bar: --version and list of an empty state cost at most 12 ms over `node -e 0`. NODE_EXTRA_CA_CERTS is
// taken out of the environment, since it alone costs Node some 30 ms where it is set. On a busy machine the
// clock measures the others: then the processors' time (user and system, mean) is held against the bar.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const BAR_MS = 12;
/** What /proc counts in on Linux, whatever the kernel's own tick: USER_HZ is 100. */
const MS_PER_TICK = 10;
const WARM_UP_ROUNDS = 3;
const rounds = Number(process.argv[2] ?? 40);
const firectl = fileURLToPath(new URL("../bin/firectl", import.meta.url));
const home = mkdtempSync(path.join(os.tmpdir(), "firectl-bench-"));
const { NODE_EXTRA_CA_CERTS: _slow, ...inherited } = process.env;
const env = {
  ...inherited,
  HOME: home,
  FIRECTL_CONFIG_DIR: path.join(home, "config"),
  FIRECTL_DATA_DIR: path.join(home, "data"),
  FIRECTL_RUNTIME_DIR: path.join(home, "run"),
};

const cases = [
  { name: "node -e 0", argv: ["-e", "0"] },
  { name: "firectl --version", argv: [firectl, "--version"], bar: BAR_MS },
  { name: "firectl list", argv: [firectl, "list"], bar: BAR_MS },
  { name: "firectl --help", argv: [firectl, "--help"] },
];

try {
  const samples = new Map(cases.map(({ name }) => [name, { wall: [], cpu: [] }]));
  for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
    for (const { name, argv } of cases) {
      const { wall, cpu } = measure(argv);
      if (round < WARM_UP_ROUNDS) continue;
      samples.get(name).wall.push(wall);
      samples.get(name).cpu.push(cpu);
    }
  }
  report(cases.map((entry) => ({ ...entry, ...samples.get(entry.name) })));
} finally {
  rmSync(home, { recursive: true, force: true });
}

function measure(argv) {
  const cpuBefore = childrenCpuMs();
  const start = process.hrtime.bigint();
  const result = spawnSync(process.execPath, argv, { env, stdio: ["ignore", "pipe", "pipe"] });
  const wall = Number(process.hrtime.bigint() - start) / 1e6;
  if (result.status !== 0) throw new Error(`${argv.join(" ")} failed: ${result.stderr}`);
  return { wall, cpu: childrenCpuMs() - cpuBefore };
}

/** cutime and cstime, fields 16 and 17 of /proc/self/stat; proc(5). */
function childrenCpuMs() {
  const stat = readFileSync("/proc/self/stat", "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) * MS_PER_TICK;
}

function report(results) {
  const [bare] = results;
  const isBusy = os.loadavg()[0] > os.availableParallelism() / 2;
  for (const { name, wall, cpu, bar } of results) {
    const overWall = median(wall) - median(bare.wall);
    const overCpu = mean(cpu) - mean(bare.cpu);
    const line = `${figure(median(wall))} ms ${signed(overWall)}   cpu ${figure(mean(cpu))} ms ${signed(overCpu)}`;
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

function median(samples) {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function mean(samples) {
  return samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
}
