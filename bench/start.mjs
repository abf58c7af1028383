// Starts one warm image over and over, firectl beside microsandbox (`msb`) where that is installed, in turn:
// A B A B …, so that a machine whose speed drifts is unfair to both.
//
//   node bench/start.mjs IMAGE [ROUNDS]
//
// IMAGE is a registry reference that both tools have pulled. Prints the wall clock from spawn to exit, and beside it
// what firectl itself says of the stages (--timing). MSB names the msb binary.
import { spawnSync } from "node:child_process";
import { FIRECTL, plainEnvironment, possible } from "./lib/programs.mjs";
import { figureText, introduce, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { spread } from "./lib/statistics.mjs";

const [image, rounds = "5"] = process.argv.slice(2);
if (image === undefined) {
  console.error("usage: node bench/start.mjs IMAGE [ROUNDS]");
  process.exit(2);
}
const msb = process.env.MSB ?? "msb";
const MICROSANDBOX = "msb run IMAGE -- true";
const env = plainEnvironment();
const stages = new Map();
const contenders = [
  { name: "node -e 0", argv: [process.execPath, "-e", "0"] },
  {
    name: "firectl run --rm IMAGE true",
    argv: [process.execPath, FIRECTL, "--json", "run", "--rm", "--timing", image, "true"],
    after: noteStages,
  },
  {
    name: MICROSANDBOX,
    needs: [msb],
    argv: [msb, "run", "--no-tty", "--no-stdin", image, "--", "true"],
  },
];

introduce(`Starts of ${image}; ${rounds} rounds`);
const ways = possible(contenders).map((contender) => ({
  ...contender,
  run: (round) => start(contender, round),
}));
// The first round warms the page cache and is not counted.
const results = await alternate(ways, { rounds: Number(rounds), warmUp: 1, writesMuch: false });
printTable(results, { title: "what is run", beside: [MICROSANDBOX] });
console.log("\nfirectl's stages, ms");
for (const [stage, values] of stages) {
  const { median, least, most } = spread(values);
  console.log(`  ${stage.padEnd(12)} ${figureText(median)} (${figureText(least)}–${figureText(most)})`);
}

function start({ name, argv, after }, round) {
  const startedAt = performance.now();
  const { status, stderr } = spawnSync(argv[0], argv.slice(1), { env, stdio: ["ignore", "ignore", "pipe"] });
  const ms = performance.now() - startedAt;
  if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
  if (round >= 0) after?.(String(stderr));
  return { ms };
}

function noteStages(stderr) {
  const line = stderr.split("\n").find((text) => text.startsWith('{"timings"'));
  if (line === undefined) return;
  for (const [stage, ms] of Object.entries(JSON.parse(line).timings)) {
    stages.set(stage, [...(stages.get(stage) ?? []), ms]);
  }
}
