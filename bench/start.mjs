// Starts one warm image over and over, firectl beside microsandbox (`msb`) where that is installed, and firectl's VM
// beside a bare one of Firecracker, in turn: A B C C B A …, so that a machine whose speed drifts is unfair to all.
//
//   node bench/start.mjs IMAGE [ROUNDS] [MSB-IMAGE]
//
// IMAGE is in firectl's store, MSB-IMAGE (the same unless given) in microsandbox's. Three things are timed:
//
// - from spawn to exit: `firectl run --rm IMAGE true` and `msb run IMAGE -- true`;
// - of that same run of firectl, from the spawn of the shell that starts Firecracker to the moment at which firectl
//   has seen that execve of the workload succeeded; and beside it, from the spawn of a bare Firecracker (--no-api, a
//   configuration file) with the same kernel, command line and memory, no disks, and an init that does nothing
//   (lib/bare-vm.mjs), to the moment at which that init's first word has been read;
// - what firectl itself says of the stages (--timing).
//
// firectl's VMs go on from a snapshot of the first one's boot, which the warm-up leaves; beside them are VMs that boot.
//
// Needs KVM, firecracker (FIRECTL_FIRECRACKER or on PATH), a C compiler for the init. MSB names the msb binary.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { openContext } from "../dist/manager/open-context.js";
import { bareVm } from "./lib/bare-vm.mjs";
import { FIRECTL, findProgram, plainEnvironment, possible } from "./lib/programs.mjs";
import { figureText, introduce, judge, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { spread } from "./lib/statistics.mjs";

const [image, rounds = "5", msbImage = image] = process.argv.slice(2);
if (image === undefined) {
  console.error("usage: node bench/start.mjs IMAGE [ROUNDS] [MSB-IMAGE]");
  process.exit(2);
}
const MEMORY_MIB = 512;
const msb = process.env.MSB ?? "msb";
const RUN = "firectl run --rm IMAGE true";
const MICROSANDBOX = "msb run IMAGE -- true";
const BOOT = "firectl, VMM start → workload";
const COLD_RUN = "the same with --boot-snapshot never";
const COLD_BOOT = "the same, VMM start → workload";
const BARE = "bare Firecracker, VMM start → init";
const firecracker = findProgram(process.env.FIRECTL_FIRECRACKER || "firecracker");
const compiler = ["cc", "gcc", "clang"].find((name) => findProgram(name) !== undefined);
const stages = new Map();

await withScratch(async ({ directory, at }) => {
  const trace = at("trace.jsonl");
  const env = plainEnvironment({ FIRECTL_TRACE: trace });
  const ways = possible([
    { name: "node -e 0", run: () => ({ ms: timedRun([process.execPath, "-e", "0"], env).ms }) },
    { name: RUN, run: (round) => ({ several: startFirectl(round, { run: RUN, boot: BOOT }) }) },
    {
      name: COLD_RUN,
      run: () => ({
        several: startFirectl(-1, { run: COLD_RUN, boot: COLD_BOOT, flags: ["--boot-snapshot", "never"] }),
      }),
    },
    {
      name: BARE,
      needs: ["firecracker", { what: "C compiler", isHere: compiler !== undefined }],
      run: await bareRun(),
    },
    {
      name: MICROSANDBOX,
      needs: [msb],
      run: () => ({ ms: timedRun([msb, "run", "--no-tty", "--no-stdin", msbImage, "--", "true"], env).ms }),
    },
  ]);
  introduce(`Starts of ${image}; ${rounds} rounds`);
  // The first round warms the page cache and is not counted.
  const results = await alternate(ways, { rounds: Number(rounds), warmUp: 1, writesMuch: false });
  printTable(results, { title: "what is run", beside: [MICROSANDBOX, BARE] });
  console.log("\nfirectl's stages, ms");
  for (const [stage, values] of stages) {
    const { median, least, most } = spread(values);
    console.log(`  ${stage.padEnd(12)} ${figureText(median)} (${figureText(least)}–${figureText(most)})`);
  }
  judge(results, [
    { way: RUN, beside: MICROSANDBOX, atMost: 0.5 },
    { way: BOOT, beside: BARE, atMost: 1.3 },
  ]);

  function startFirectl(round, { run, boot, flags = [] }) {
    rmSync(trace, { force: true });
    const argv = [
      "--json",
      "run",
      "--rm",
      "--timing",
      "--vmm",
      "firecracker",
      "-m",
      `${MEMORY_MIB}m`,
      ...flags,
      image,
      "true",
    ];
    const { ms, stderr } = timedRun([process.execPath, FIRECTL, ...argv], env);
    if (round >= 0) noteStages(stderr);
    const { marks } = JSON.parse(readFileSync(trace, "utf8"));
    const at = (name) => marks.find((mark) => mark.name === name).ms;
    return [
      { name: run, ms },
      { name: boot, ms: at("booted") - at("launching") },
    ];
  }

  async function bareRun() {
    const kernels = await (await openContext()).kernels();
    const kernel = await kernels.default();
    if (kernel === undefined || firecracker === undefined || compiler === undefined) return undefined;
    const kernelPath = await kernels.imagePath(kernel, { compressed: true });
    const start = bareVm({ firecracker, kernelPath, memoryMib: MEMORY_MIB, compiler, directory, env });
    return async () => ({ ms: (await start()).initMs });
  }
});

function timedRun(argv, env) {
  const startedAt = performance.now();
  const { status, stderr } = spawnSync(argv[0], argv.slice(1), { env, stdio: ["ignore", "ignore", "pipe"] });
  const ms = performance.now() - startedAt;
  if (status !== 0) throw new Error(`${argv.join(" ")} ended with ${status}: ${stderr}`);
  return { ms, stderr: String(stderr) };
}

function noteStages(stderr) {
  const line = stderr.split("\n").find((text) => text.startsWith('{"timings"'));
  if (line === undefined) return;
  for (const [stage, ms] of Object.entries(JSON.parse(line).timings)) {
    stages.set(stage, [...(stages.get(stage) ?? []), ms]);
  }
}
