// What the start of the command line costs over a bare Node: alternating runs, medians.
//
//   npm run build && node bench/cli-startup.mjs [ROUNDS]
//
// The bar: --version and list of an empty state cost at most 12 ms over `node -e 0`. NODE_EXTRA_CA_CERTS is
// taken out of the environment, since it alone costs Node some 30 ms where it is set.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const BAR_MS = 12;
const rounds = Number(process.argv[2] ?? 40);
const firectl = fileURLToPath(new URL("../bin/firectl", import.meta.url));
const home = mkdtempSync(path.join(tmpdir(), "firectl-bench-"));
const { NODE_EXTRA_CA_CERTS: _slow, ...inherited } = process.env;
const env = {
  ...inherited,
  HOME: home,
  XDG_CONFIG_HOME: path.join(home, "config"),
  XDG_DATA_HOME: path.join(home, "data"),
  XDG_RUNTIME_DIR: path.join(home, "run"),
};

const cases = [
  { name: "node -e 0", argv: ["-e", "0"] },
  { name: "firectl --version", argv: [firectl, "--version"] },
  { name: "firectl list", argv: [firectl, "list"] },
  { name: "firectl --help", argv: [firectl, "--help"] },
];

try {
  const times = new Map(cases.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds + 3; round++) {
    for (const { name, argv } of cases) {
      const ms = timeOf(argv);
      // The first rounds warm the page cache.
      if (round >= 3) times.get(name).push(ms);
    }
  }
  const bare = median(times.get("node -e 0"));
  for (const [name, samples] of times) {
    const over = median(samples) - bare;
    console.log(
      `${name.padEnd(18)} ${median(samples).toFixed(1).padStart(6)} ms  ${over >= 0 ? "+" : ""}${over.toFixed(1)} ms`,
    );
  }
  const slow = ["firectl --version", "firectl list"].filter(
    (name) => median(times.get(name)) - bare > BAR_MS,
  );
  if (slow.length > 0) {
    console.error(`over the bar of ${BAR_MS} ms: ${slow.join(", ")}`);
    process.exitCode = 1;
  }
} finally {
  rmSync(home, { recursive: true, force: true });
}

function timeOf(argv) {
  const start = process.hrtime.bigint();
  const result = spawnSync(process.execPath, argv, { env, stdio: ["ignore", "pipe", "pipe"] });
  const ms = Number(process.hrtime.bigint() - start) / 1e6;
  if (result.status !== 0) throw new Error(`${argv.join(" ")} failed: ${result.stderr}`);
  return ms;
}

function median(samples) {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
