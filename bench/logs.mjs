// What recording a workload's output costs it: the same program in the same guest, first into /dev/null, then to
// its stdout, which ends on the control drive, then into a pipe that `cat` empties, which is the least that anybody
// costs who takes it. And whether the newest part is there afterwards.
//
//   npm run build && node bench/logs.mjs [--vmm firecracker|qemu] [--bytes 1000000000] [--rounds 3] [--image oci:DIR]
//     [--only seq|awk] [--without-pipe]

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
    only: { type: "string", default: "" },
    "without-pipe": { type: "boolean", default: false },
  },
});
const bin = path.resolve(import.meta.dirname, "../bin/firectl");
const firectl = (...args) =>
  execFileSync(bin, args, { encoding: "utf8", maxBuffer: 1 << 30, stdio: ["ignore", "pipe", "inherit"] });
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

// Busybox's programs that make their output, and do not just copy it, and the last line of each.
const bytes = Number(values.bytes);
const lines = Math.ceil(bytes / 100);
const numbers = 10_000_000 + Math.ceil(bytes / 9);
const producers = [
  {
    name: "seq, through stdio",
    program: `seq 10000001 ${numbers}`,
    last: String(numbers),
  },
  {
    name: "awk, a write for each line of 100 bytes",
    program: `awk 'BEGIN { for (i = 1; i <= ${lines}; i++) printf "%099d\\n", i }'`,
    last: String(lines).padStart(99, "0"),
  },
];

const ways = values["without-pipe"] ? ["recorded"] : ["recorded", "piped"];
console.log(`${bytes} bytes, ${values.rounds} rounds, ${values.cpus} processor(s), medians`);
for (const { name, program, last } of producers.filter((producer) => producer.name.startsWith(values.only))) {
  const script = `now() { read -r up rest < /proc/uptime; echo "$up"; }
    i=0; while [ $i -lt ${values.rounds} ]; do
      a=$(now); ${program} > /dev/null; b=$(now); ${program}; c=$(now)
      ${ways.includes("piped") ? `${program} | cat > /dev/null` : ":"}; d=$(now)
      echo "$a $b $c $d" >> /times; i=$((i+1))
    done; echo done > /finished; sleep 100000`;
  const vm = `bench-logs-${process.pid}`;
  const machine = ["--name", vm, "--vmm", values.vmm, "--cpus", values.cpus];
  firectl("run", "-d", ...machine, values.image, "/bin/sh", "-c", script);
  try {
    const wait = "while [ ! -e /finished ]; do sleep 1; done; cat /times";
    const rounds = firectl("exec", vm, "/bin/sh", "-c", wait)
      .trim()
      .split("\n")
      .map((line) => line.split(" ").map(Number))
      .map(([a, b, c, d]) => ({ discarded: b - a, recorded: c - b, piped: d - c }));
    const newest = firectl("logs", "--tail", "1", vm).trim();
    const more = (way) => {
      const percent = rounds.map((round) => (round[way] / round.discarded - 1) * 100);
      const spread = `${Math.min(...percent).toFixed(1)} to ${Math.max(...percent).toFixed(1)}`;
      const seconds = median(rounds.map((round) => round[way])).toFixed(2);
      return `${seconds} s, ${median(percent).toFixed(1)} % more (${spread})`;
    };
    console.log(`${name}
  into /dev/null  ${median(rounds.map(({ discarded }) => discarded)).toFixed(2)} s
${ways.map((way) => `  ${way.padEnd(14)}  ${more(way)}`).join("\n")}
  the newest line is ${newest === last ? "there" : `missing: "${newest}"`}`);
  } finally {
    firectl("rm", "-f", vm);
  }
}
