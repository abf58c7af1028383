/*
 * The gzip layers of an image that is in the store → ext4, beside merely inflating them:
 *
 *   npm run build && node bench/layers.mjs [--rounds N] LAYOUT...
 *
 * LAYOUT is an OCI layout of gzip layers, best one of images.sh. Ours verifies each layer's digest, flattens and
 * writes besides; each time it is a fresh process, whose start is not counted. Ours unpacks with
 * Node's zlib; igzip (Debian's isal) is the fastest program there is for that.
 */
import { createReadStream, rmSync } from "node:fs";
import { parseArgs } from "node:util";
import zlib from "node:zlib";
import { buildTimed, storedImage } from "./lib/build.mjs";
import { inChild, isChildDoing } from "./lib/child.mjs";
import { readLayout } from "./lib/oci-layout.mjs";
import { possible, runAside } from "./lib/programs.mjs";
import { introduce, judge, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";

const CHUNK = 2 ** 20;
const NODE = "Node, all layers at once";
const IGZIP = "igzip -dc, one by one";
const OURS = "firectl";
const TASKS = { build };

if (!(await isChildDoing(TASKS))) await main();

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: "string", default: "7" } },
  });
  if (positionals.length === 0) {
    console.error("usage: layers.mjs [--rounds N] LAYOUT...");
    process.exit(2);
  }
  for (const layout of positionals) {
    await withScratch((scratch) => measure(readLayout(layout), { layout, scratch, rounds: values.rounds }));
  }
}

async function measure({ name, layers }, { layout, scratch, rounds }) {
  const bytes = layers.reduce((sum, { size }) => sum + size, 0);
  introduce(`${name} (${layers.length} layers, ${(bytes / 1e6).toFixed(0)} MB) → ext4; ${rounds} rounds`);
  const store = scratch.make("store");
  await storedImage(layout, store);
  const ours = (sync) => () =>
    inChild(import.meta.url, "build", { env: {}, argument: { layout, store, sync, out: scratch.at("out") } });
  const ways = [
    { name: NODE, run: () => inflateAll(layers) },
    { name: IGZIP, needs: ["igzip"], run: () => oneByOne("igzip", layers) },
    { name: "igzip -dc, two at a time", needs: ["igzip"], run: () => twoAtATime("igzip", layers) },
    { name: OURS, run: ours(false) },
    { name: `${OURS}, fsync`, run: ours(true) },
    ...["libdeflate-gunzip", "pigz", "zstd", "gzip"].map((program) => ({
      name: `${program} -dc, one by one`,
      needs: [program],
      run: () => oneByOne(program, layers),
    })),
  ];
  const results = await alternate(possible(ways), { rounds: Number(rounds), warmUp: 1 });
  printTable(results, { title: name, beside: [NODE, IGZIP] });
  judge(results, [
    { way: OURS, beside: NODE, atMost: 1.15 },
    { way: OURS, beside: IGZIP, atMost: 1.3 },
    { way: `${OURS}, fsync`, beside: NODE, atMost: 1.15 },
    { way: `${OURS}, fsync`, beside: IGZIP, atMost: 1.3 },
    { way: OURS, figure: "peakBytes", unit: "MB", atMost: 200 },
  ]);
  console.log("");
}

/** In a child: the real path, from the store's blobs to a filesystem. */
async function build({ layout, store, sync, out }) {
  const { layers } = await storedImage(layout, store);
  rmSync(out, { force: true });
  return buildTimed(layers, { out, sync });
}

async function inflateAll(layers) {
  await Promise.all(layers.map(({ file }) => inflate(file)));
}

/** To nowhere, and with large pieces: Node's default of 16 KiB takes more than twice as long. */
function inflate(file) {
  return new Promise((resolve, reject) => {
    createReadStream(file, { highWaterMark: CHUNK })
      .pipe(zlib.createGunzip({ chunkSize: CHUNK }))
      .on("data", () => {})
      .on("error", reject)
      .on("end", resolve);
  });
}

async function oneByOne(program, layers) {
  for (const { file } of layers) await decompress(program, file);
}

async function twoAtATime(program, layers) {
  const waiting = layers.map(({ file }) => file);
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift())
      await decompress(program, file);
  };
  await Promise.all([work(), work()]);
}

/** By name on standard input, so that the blob's name needs no suffix. */
function decompress(program, file) {
  const flags = program === "libdeflate-gunzip" ? "-c" : "-dc";
  return runAside("sh", ["-c", `exec "$1" ${flags} <"$2" >/dev/null`, "sh", program, file]);
}
