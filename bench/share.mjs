/*
 * A directory of the host that a guest has live, beside the guest's own disk and the host's own directory: a large
 * file, small writes, many small files. What is timed is lib/share-workload.sh, by the clock of whoever runs it.
 *
 *   npm run build && node bench/share.mjs [--rounds N] [--mib N] [--files N] [--vmm VMM] IMAGE
 *
 * IMAGE needs busybox's programs. Under emulation the guest's processor is what is measured: only the ratio to
 * the guest's own disk means something there. For another way of sharing, run lib/share-workload.sh in a guest
 * that has it.
 */
import { cpSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FIRECTL, run } from "./lib/programs.mjs";
import { introduce } from "./lib/report.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { median } from "./lib/statistics.mjs";

const WORKLOAD = fileURLToPath(new URL("lib/share-workload.sh", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    mib: { type: "string", default: "256" },
    files: { type: "string", default: "10000" },
    vmm: { type: "string", default: "auto" },
  },
});
const [image] = positionals;
if (image === undefined) {
  console.error("usage: share.mjs [--rounds N] [--mib N] [--files N] [--vmm VMM] IMAGE");
  process.exit(2);
}
await withScratch(measure);

function measure(scratch) {
  introduce(
    `A shared directory: a file of ${values.mib} MiB, ${values.files} small files; ${values.rounds} rounds`,
  );
  const shared = scratch.make("shared");
  const tools = scratch.make("tools");
  cpSync(WORKLOAD, `${tools}/workload.sh`);
  const args = [values.mib, values.files];
  const guest = (directory) =>
    run(FIRECTL, [
      ...["run", "--rm", "--quiet", "--vmm", values.vmm, "-m", "512m", "-v", `${shared}:/shared`],
      ...["-v", `${tools}:/tools`, image, "sh", "-c", `mkdir -p ${directory} && sh /tools/workload.sh "$@"`],
      ...["sh", directory, ...args],
    ]);
  const onHost = () => {
    const directory = scratch.at("host");
    mkdirSync(directory, { recursive: true });
    return run("sh", [WORKLOAD, directory, ...args]);
  };
  const ways = { share: () => guest("/shared"), "guest's disk": () => guest("/own"), host: onHost };
  const seconds = {};
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [way, measureOnce] of Object.entries(ways)) {
      for (const line of String(measureOnce()).trim().split("\n")) {
        const [step, time] = line.split(" ");
        seconds[step] ??= {};
        seconds[step][way] ??= [];
        seconds[step][way].push(Number(time));
      }
    }
  }
  const names = Object.keys(ways);
  console.log(
    `| step | ${names.map((name) => `${name}, s`).join(" | ")} | share ÷ guest's disk | share ÷ host |`,
  );
  console.log(`| --- |${" --- |".repeat(names.length + 2)}`);
  for (const [step, times] of Object.entries(seconds)) {
    const medians = names.map((name) => median(times[name]));
    const ratio = (index) => (medians[index] > 0 ? (medians[0] / medians[index]).toFixed(1) : "–");
    console.log(
      `| ${step} | ${medians.map((value) => value.toFixed(2)).join(" | ")} | ${ratio(1)} | ${ratio(2)} |`,
    );
  }
}
