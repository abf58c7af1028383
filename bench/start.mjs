// Starts one warm image over and over, firectl beside microsandbox (`msb`) where that is installed, in turn:
// A B A B …, so that a machine whose speed drifts is unfair to both.
//
//   node bench/start.mjs IMAGE [ROUNDS]
//
// IMAGE is a registry reference that both tools have pulled. Prints wall-clock seconds from spawn to exit, and
// beside them what firectl itself says of the stages (--timing). MSB names the msb binary.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const [image, rounds = "5"] = process.argv.slice(2);
if (image === undefined) {
  console.error("usage: node bench/start.mjs IMAGE [ROUNDS]");
  process.exit(2);
}
const firectl = fileURLToPath(new URL("../bin/firectl", import.meta.url));
const msb = process.env.MSB ?? "msb";
const env = { ...process.env };
// It adds tens of milliseconds to every start of Node, and no user's machine has it.
delete env.NODE_EXTRA_CA_CERTS;

const stages = new Map();
const contenders = [
  { name: "node -e 0", argv: [process.execPath, "-e", "0"], seconds: [] },
  {
    name: "firectl run --rm IMAGE true",
    argv: [process.execPath, firectl, "--json", "run", "--rm", "--timing", image, "true"],
    seconds: [],
    after: noteStages,
  },
  {
    name: "msb run IMAGE -- true",
    argv: [msb, "run", "--no-tty", "--no-stdin", image, "--", "true"],
    seconds: [],
  },
].filter(({ argv }) => spawnSync(argv[0], ["--version"], { env }).error === undefined);

for (let round = -1; round < Number(rounds); round++) {
  for (const { name, argv, seconds, after } of contenders) {
    const startedAt = performance.now();
    const { status, stderr } = spawnSync(argv[0], argv.slice(1), {
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const took = (performance.now() - startedAt) / 1000;
    if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
    // The first round warms the page cache and is not counted.
    if (round < 0) continue;
    seconds.push(took);
    after?.(String(stderr));
  }
}

console.log(`${path.basename(process.execPath)} ${process.version}, ${rounds} rounds, image ${image}\n`);
for (const { name, seconds } of contenders) console.log(`${name.padEnd(30)} ${summary(seconds, "s")}`);
const [, ours, theirs] = contenders;
if (theirs !== undefined) {
  const ratios = ours.seconds.map((seconds, index) => seconds / theirs.seconds[index]);
  console.log(`${"ratio, pair by pair".padEnd(30)} ${summary(ratios, "")}`);
}
console.log("\nfirectl's stages");
for (const [stage, values] of stages) console.log(`  ${stage.padEnd(12)} ${summary(values, "ms")}`);

function noteStages(stderr) {
  const line = stderr.split("\n").find((text) => text.startsWith('{"timings"'));
  if (line === undefined) return;
  for (const [stage, ms] of Object.entries(JSON.parse(line).timings)) {
    stages.set(stage, [...(stages.get(stage) ?? []), ms]);
  }
}

function summary(values, unit) {
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const show = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(2));
  return `${show(median)}${unit} (${show(sorted[0])}–${show(sorted.at(-1))})`;
}
