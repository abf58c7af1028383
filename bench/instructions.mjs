// How many instructions a guest executes until its workload's first one: what there is of a start that depends on no
// clock and no load, from which that on hardware is estimated. Beside it the same machine, kernel, disks and devices
// with an init that is that workload itself: the difference is the agent, with what it has the kernel do.
//
//   npm run build && node bench/instructions.mjs [--rounds N] [--kernel NAME]
//
// Counted by a plugin in QEMU (lib/count-instructions.c), whose string instructions count once a turn. Needs QEMU with
// plugins, as Debian's is, vhost-device-vsock, a C compiler, and an installed kernel (`firectl kernel list`).
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { packCpio } from "../dist/kernel/cpio.js";
import { openContext } from "../dist/manager/open-context.js";
import { directoriesBelow, FIRECTL, findProgram, plainEnvironment, run } from "./lib/programs.mjs";
import { introduce, judge, printMarkdown } from "./lib/report.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { spread } from "./lib/statistics.mjs";
import { END_OF_ARCHIVE, fileEntry } from "./lib/tar.mjs";

/** On hardware that executes one instruction a nanosecond, which kernels starting up do at least, that is 10 ms. */
const MOST_OF_AGENT = 10e6;
const IMAGE = "bench/instructions:1";
const [BARE, OURS] = ["an init that is the workload", "firectl's agent, then the workload"];
const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, kernel: { type: "string" } },
});
const compiler = ["cc", "gcc", "clang"].find((name) => findProgram(name) !== undefined);
const qemu = findProgram("qemu-system-x86_64");
if (compiler === undefined || qemu === undefined || process.arch !== "x64") {
  console.error("left out: everything (a C compiler and qemu-system-x86_64 on x86_64 are needed)");
  process.exit(2);
}

await withScratch(async ({ directory, at }) => {
  const compile = (name, target, flags) => {
    const source = fileURLToPath(new URL(`./lib/${name}.c`, import.meta.url));
    run(compiler, [...flags, "-o", target, source]);
    return target;
  };
  const plugin = compile("count-instructions", at("count.so"), ["-O2", "-shared", "-fPIC"]);
  const marked = readFileSync(
    compile("marked", at("marked"), [
      "-Os",
      "-static",
      "-nostdlib",
      "-ffreestanding",
      "-fno-stack-protector",
    ]),
  );
  writeFileSync(at("bare.cpio"), packCpio([{ kind: "file", name: "init", mode: 0o755, contents: marked }]));
  const count = at("count");
  writeFileSync(at("qemu"), counting({ plugin, count, initrd: at("bare.cpio") }), { mode: 0o755 });
  mkdirSync(at("data"), { recursive: true });
  symlinkSync(path.join((await openContext()).directories.data, "kernels"), at("data", "kernels"));
  const env = plainEnvironment({ ...directoriesBelow(directory), FIRECTL_QEMU: at("qemu") });
  const tar = Buffer.concat([fileEntry("marked", marked), END_OF_ARCHIVE]);
  run(process.execPath, [FIRECTL, "import", "-q", "-", IMAGE], { env, input: tar });
  const kernel = values.kernel === undefined ? [] : ["--kernel", values.kernel];
  const measure = (way) => {
    rmSync(count, { force: true });
    // The bare one never says that its workload has started, which firectl then reports.
    const told = spawnSync(FIRECTL, ["run", "--rm", "-q", "--vmm", "qemu", ...kernel, IMAGE, "/marked"], {
      env: { ...env, ...(way === BARE ? { BARE: "1" } : {}) },
    });
    if (!existsSync(count))
      throw new Error(`${way}: no instruction of the workload was seen\n${told.stderr}`);
    return { instructions: Number(readFileSync(count, "utf8")) };
  };
  introduce(`Instructions until the workload's first one; ${values.rounds} rounds`);
  const results = new Map([BARE, OURS].map((way) => [way, []]));
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [way, samples] of results) samples.push(measure(way));
  }
  const millions = (samples) => spread(samples.map(({ instructions }) => instructions / 1e6));
  printMarkdown(
    ["what the kernel starts", "million instructions", "least–most"],
    [...results].map(([way, samples]) => {
      const { median, least, most } = millions(samples);
      return [way, median.toFixed(1), `${least.toFixed(1)}–${most.toFixed(1)}`];
    }),
  );
  const agent = results.get(OURS).map(({ instructions }, round) => ({
    instructions: instructions - results.get(BARE)[round].instructions,
  }));
  judge(new Map([["the agent", agent]]), [
    { way: "the agent", figure: "instructions", unit: "million", atMost: MOST_OF_AGENT / 1e6 },
  ]);
});

/** QEMU with the plugin; with BARE in its environment it starts another init. */
function counting({ plugin, count, initrd }) {
  return `#!/bin/sh
case $1 in *-version) exec '${qemu}' "$@" ;; esac
for word; do
  shift
  [ "$previous" != -initrd ] || [ -z "$BARE" ] || word='${initrd}'
  set -- "$@" "$word"
  previous=$word
done
exec '${qemu}' -plugin '${plugin},count=${count}' "$@"
`;
}
