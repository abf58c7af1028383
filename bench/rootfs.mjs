/*
 * tar → ext4 beside its peers, on one flattened tar: `npm run build && node bench/rootfs.mjs [TAR] [ROUNDS]`.
 * Without TAR, one is made of /usr/bin and /usr/lib. Rounds alternate between the ways and medians are printed,
 * so that what else the machine does hits all alike. Node's own start is not counted for ours; NODE_EXTRA_CA_CERTS
 * does not matter then.
 */
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { buildRootfs } from "../dist/rootfs/build-rootfs.js";
import { createWritableDisk } from "../dist/rootfs/writable-disk.js";

const UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";
const CHUNK = 256 * 1024;
const directory = mkdtempSync(path.join(tmpdir(), "firectl-bench-"));
const out = path.join(directory, "out");
const mountPoint = path.join(directory, "mnt");
mkdirSync(mountPoint);

function run(command, ...args) {
  const result = spawnSync(command, args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${result.stderr}`);
}

function makeTar() {
  const target = path.join(directory, "sample.tar");
  // Files that change or vanish meanwhile are no failure here.
  spawnSync("tar", ["-cf", target, "-C", "/", "usr/share", "usr/sbin", "etc"]);
  return target;
}

async function* chunks(file) {
  const fd = openSync(file, "r");
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  try {
    for (;;) {
      const length = readSync(fd, buffer, 0, CHUNK);
      if (length === 0) return;
      yield length === CHUNK ? buffer : buffer.subarray(0, length);
    }
  } finally {
    closeSync(fd);
  }
}

function nodeCopy(tar) {
  const from = openSync(tar, "r");
  const to = openSync(out, "wx");
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  for (;;) {
    const length = readSync(from, buffer, 0, CHUNK);
    if (length === 0) break;
    writeSync(to, buffer, 0, length);
  }
  closeSync(from);
  closeSync(to);
}

function classic(tar) {
  const size = Math.ceil(statSync(tar).size * 1.3) + 64 * 2 ** 20;
  run("truncate", "-s", String(size), out);
  run("mkfs.ext4", "-q", "-F", out);
  run("mount", "-o", "loop", out, mountPoint);
  try {
    run("tar", "-xpf", tar, "-C", mountPoint);
  } finally {
    run("umount", mountPoint);
  }
}

const build = (tar, options) =>
  buildRootfs({
    layers: [{ name: tar, open: () => chunks(tar) }],
    path: out,
    uuid: UUID,
    sync: false,
    ...options,
  });

const tar = process.argv[2] ?? makeTar();
const tarBytes = statSync(tar).size;
const rounds = Number(process.argv[3] ?? 7);
const ways = {
  "cat (the floor)": () => run("sh", "-c", 'cat "$1" > "$2"', "sh", tar, out),
  "Node, plain copy": () => nodeCopy(tar),
  "firectl, read-only": () => build(tar),
  "firectl, writable": () => build(tar, { writable: { sizeBytes: 64 * 2 ** 30 } }),
  "firectl, read-only, fsync": () => build(tar, { sync: true }),
  ...(process.getuid?.() === 0 ? { "mkfs + mount + tar x": () => classic(tar) } : {}),
  "writable disk of 10 GiB": () =>
    createWritableDisk({
      path: out,
      sizeBytes: 10 * 2 ** 30,
      uuid: UUID,
      directories: [
        { name: "upper", mode: 0o755 },
        { name: "work", mode: 0o755 },
      ],
    }),
};

const times = new Map(Object.keys(ways).map((name) => [name, []]));
const used = new Map();
try {
  for (let round = 0; round < rounds; round++) {
    for (const [name, way] of Object.entries(ways)) {
      rmSync(out, { force: true });
      const start = performance.now();
      await way();
      times.get(name).push(performance.now() - start);
      used.set(name, statSync(out).blocks * 512);
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const floor = median(times.get("cat (the floor)"));
console.log(`${(tarBytes / 1e6).toFixed(1)} MB, ${rounds} rounds`);
for (const [name, values] of times) {
  const ms = median(values);
  const columns = [
    name.padEnd(28),
    `${ms.toFixed(1)} ms`.padStart(12),
    `best ${Math.min(...values).toFixed(1)}`.padStart(12),
    `${(ms / floor).toFixed(2)} × cat`.padStart(14),
    `${(used.get(name) / 1e6).toFixed(1)} MB on disk`.padStart(20),
  ];
  console.log(columns.join(""));
}
console.log(`peak memory of this process: ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MB`);
