// What recording a workload's output costs it: the same program in the same guest, first into /dev/null, then to
// its stdout, which ends on the control drive. And whether the newest part is there afterwards.
//
//   npm run build && node bench/logs.mjs [--vmm firecracker|qemu] [--bytes 1000000000] [--rounds 3] [--image oci:DIR]

import { execFileSync } from "node:child_process";
import path from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    vmm: { type: "string", default: "auto" },
    bytes: { type: "string", default: "1000000000" },
    rounds: { type: "string", default: "3" },
    image: { type: "string", default: "oci:.cache/images/layers" },
    cpus: { type: "string", default: "1" },
  },
});
const bin = path.resolve(import.meta.dirname, "../bin/firectl");
const firectl = (...args) =>
  execFileSync(bin, args, { encoding: "utf8", maxBuffer: 1 << 30, stdio: ["ignore", "pipe", "inherit"] });
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

// Numbered lines of 100 bytes from awk: a program that makes its output, and does not just copy it.
const lines = Math.ceil(Number(values.bytes) / 100);
const program = `awk 'BEGIN { for (i = 1; i <= ${lines}; i++) printf "%099d\\n", i }'`;
const script = `now() { read -r up rest < /proc/uptime; echo "$up"; }
  i=0; while [ $i -lt ${values.rounds} ]; do
    a=$(now); ${program} > /dev/null; b=$(now); ${program}; c=$(now)
    echo "$a $b $c" >> /times; i=$((i+1))
  done; echo done > /finished; sleep 100000`;

const name = `bench-logs-${process.pid}`;
firectl(
  "run",
  "-d",
  "--name",
  name,
  "--vmm",
  values.vmm,
  "--cpus",
  values.cpus,
  values.image,
  "/bin/sh",
  "-c",
  script,
);
try {
  const wait = "while [ ! -e /finished ]; do sleep 1; done; cat /times";
  const rounds = firectl("exec", name, "/bin/sh", "-c", wait)
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map(Number))
    .map(([a, b, c]) => ({ discarded: b - a, recorded: c - b }));
  const last = firectl("logs", "--tail", "1", name).trim();
  const discarded = median(rounds.map((round) => round.discarded));
  const recorded = median(rounds.map((round) => round.recorded));
  const newest = Number(last) === lines ? "there" : `missing: "${last}"`;
  console.log(`${values.bytes} bytes, ${values.rounds} rounds, ${values.cpus} processor(s), medians`);
  console.log(`  into /dev/null  ${discarded.toFixed(2)} s`);
  console.log(
    `  recorded        ${recorded.toFixed(2)} s  (${((recorded / discarded - 1) * 100).toFixed(1)} % more)`,
  );
  console.log(`  the newest line is ${newest}`);
} finally {
  firectl("rm", "-f", name);
}
