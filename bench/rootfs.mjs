/*
 * One flattened tar → ext4, in process, beside the other ways of making a filesystem image of it:
 *
 *   npm run build && node bench/rootfs.mjs [--rounds N] TAR...
 *
 * TAR is best one of images.sh. Other programs are used where they are found: mkfs.ext4 with a loop mount (root),
 * mke2fs, mkfs.erofs of 1.7 and newer, and hcsshim's tar2ext4
 * (`go install github.com/Microsoft/hcsshim/cmd/tar2ext4@latest`); MKFS_EROFS and TAR2EXT4 name them where they
 * are not on PATH. Ours and Node's copy are timed without the start of Node.
 */
import { rmSync, statSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { buildTimed } from "./lib/build.mjs";
import { chunksOf, diskBytesOf, sizeText, writeAll } from "./lib/files.mjs";
import { findProgram, possible, ROOT, run } from "./lib/programs.mjs";
import { introduce, judge, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { timed } from "./lib/timed.mjs";

const WRITABLE_BYTES = 64 * 2 ** 30;
const FLOOR = "cat (TAR > FILE)";
const FLOOR_ON_DISK = "cat, fsync";
const CLASSIC = "classic (mkfs, mount, tar x, umount)";
const OURS = ["firectl, read-only", "firectl, writable"];
const OURS_ON_DISK = ["firectl, read-only, fsync", "firectl, writable, fsync"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "7" } },
});
if (positionals.length === 0) {
  console.error("usage: rootfs.mjs [--rounds N] TAR...");
  process.exit(2);
}
for (const tar of positionals) await withScratch((scratch) => measure(tar, scratch));

async function measure(tar, scratch) {
  introduce(`${path.basename(tar)} (${sizeText(tar)}) → a filesystem image; ${values.rounds} rounds`);
  const out = scratch.at("out");
  const ways = possible(waysFor(tar, { out, scratch })).map((way) => ({
    ...way,
    reset: () => rmSync(out, { force: true }),
    run: async (round) => {
      const { ms, cpuMs } = await timed(() => way.run(round));
      return { ms, cpuMs, diskBytes: diskBytesOf(out) };
    },
  }));
  const results = await alternate(ways, { rounds: Number(values.rounds), warmUp: 1 });
  printTable(results, { title: path.basename(tar), beside: [FLOOR, CLASSIC] });
  judge(results, [
    ...OURS.flatMap((way) => [
      { way, beside: FLOOR, atMost: 2.5 },
      { way, beside: CLASSIC, atMost: 0.3 },
    ]),
    ...OURS_ON_DISK.map((way) => ({ way, beside: FLOOR_ON_DISK, atMost: 2.5 })),
  ]);
  console.log("");
}

function waysFor(tar, { out, scratch }) {
  const mountPoint = scratch.make("mount");
  const erofs = process.env.MKFS_EROFS ?? "mkfs.erofs";
  const tar2ext4 = process.env.TAR2EXT4 ?? "tar2ext4";
  const ours = (options) => () => buildTimed([{ name: tar, open: () => chunksOf(tar) }], { out, ...options });
  const writable = { sizeBytes: WRITABLE_BYTES };
  return [
    { name: FLOOR, run: () => run("sh", ["-c", 'cat "$1" > "$2"', "sh", tar, out]) },
    { name: FLOOR_ON_DISK, run: () => run("sh", ["-c", 'cat "$1" > "$2" && sync "$2"', "sh", tar, out]) },
    { name: "Node, plain copy", run: () => writeAll(out, chunksOf(tar)) },
    { name: OURS[0], run: ours({}) },
    { name: OURS_ON_DISK[0], run: ours({ sync: true }) },
    { name: OURS[1], run: ours({ writable }) },
    { name: OURS_ON_DISK[1], run: ours({ writable, sync: true }) },
    {
      name: "tar2ext4 (hcsshim, Go), read-only",
      needs: [tar2ext4],
      run: () => run(tar2ext4, ["-i", tar, "-o", out]),
    },
    {
      name: erofsName(erofs),
      needs: [{ what: "mkfs.erofs with --tar=f", isHere: canReadTar(erofs) }],
      run: () => run(erofs, ["--quiet", "--tar=f", out, tar]),
    },
    {
      name: CLASSIC,
      needs: [ROOT, "mkfs.ext4"],
      run: () => {
        makeEmptyFile(out, tar);
        run("mkfs.ext4", ["-q", "-F", out]);
        run("mount", ["-o", "loop", out, mountPoint]);
        try {
          run("tar", ["-xpf", tar, "-C", mountPoint]);
        } finally {
          run("umount", [mountPoint]);
        }
      },
    },
    {
      name: "tar x, then mke2fs -d DIR",
      needs: [ROOT, "mke2fs"],
      // Its directory stays until the end: see withScratch.
      run: (round) => {
        const root = scratch.make(`root${round}`);
        run("tar", ["-xpf", tar, "-C", root]);
        makeEmptyFile(out, tar);
        run("mke2fs", ["-q", "-F", "-t", "ext4", "-d", root, out]);
      },
    },
  ];
}

function makeEmptyFile(out, tar) {
  const bytes = Math.ceil(statSync(tar).size * 1.3) + 64 * 2 ** 20;
  run("truncate", ["-s", String(bytes), out]);
}

function canReadTar(erofs) {
  return findProgram(erofs) !== undefined && run(erofs, ["--help"]).includes("--tar=");
}

function erofsName(erofs) {
  const version = canReadTar(erofs) ? run(erofs, ["--version"]) : "";
  return `mkfs.erofs ${/\d+\.[\w.]+/.exec(version)?.[0] ?? ""} --tar=f`;
}
