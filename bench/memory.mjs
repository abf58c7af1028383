/*
 * Peak memory of building a filesystem, whatever the image:
 *
 *   npm run build && node bench/memory.mjs [--gib N] [--files N] [LAYOUT...]
 *
 * Each build is a process of its own, whose greatest resident set counts: that of Node itself, some 45 MB, is in
 * it. LAYOUT is an OCI layout, built from firectl's store as a pull does it. Beside those, layers that are
 * made up as they are read: one file of N GiB of noise (4), N files of 100 bytes in directories of 1,000
 * (1,000,000), and the same again at a tenth, so that the price of one more entry is the difference. The disk
 * below $TMPDIR needs room for the largest of them: N GiB, or 4 KiB for each file.
 */
import { randomFillSync } from "node:crypto";
import { rmSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { buildTimed, storedImage } from "./lib/build.mjs";
import { inChild, isChildDoing } from "./lib/child.mjs";
import { introduce, judge, printTable } from "./lib/report.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { END_OF_ARCHIVE, fileEntry, fileHeader } from "./lib/tar.mjs";

const CHUNK = 256 * 1024;
const FILES_A_DIRECTORY = 1000;
const FILE_BYTES = 100;
const TASKS = { image, largeFile, manyFiles };

if (!(await isChildDoing(TASKS))) await main();

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { gib: { type: "string", default: "4" }, files: { type: "string", default: "1000000" } },
  });
  introduce("Peak memory of a build");
  await withScratch(async (scratch) => {
    const results = new Map();
    const out = scratch.at("out");
    const build = (name, task, argument) => {
      results.set(name, [inChild(import.meta.url, task, { env: {}, argument: { ...argument, out } })]);
      rmSync(out);
    };
    for (const layout of positionals) {
      const store = scratch.make("store");
      await storedImage(layout, store);
      build(path.basename(layout), "image", { layout, store });
    }
    build("one file of 1 MiB", "largeFile", { bytes: 2 ** 20 });
    const gib = Number(values.gib);
    build(`one file of ${gib} GiB`, "largeFile", { bytes: gib * 2 ** 30 });
    const files = Number(values.files);
    const few = Math.ceil(files / 10);
    build(filesName(few), "manyFiles", { files: few });
    build(filesName(files), "manyFiles", { files });
    printTable(results, { title: "what is built" });
    console.log(`\neach further entry: ${priceOfEntry(results, { few, files }).toFixed(0)} bytes of memory`);
    const images = positionals.map((layout) => path.basename(layout));
    judge(results, [
      ...[...images, `one file of ${gib} GiB`].map((way) => ({
        way,
        figure: "peakBytes",
        unit: "MB",
        atMost: 200,
      })),
    ]);
  });
}

function filesName(files) {
  return `${files.toLocaleString("en")} files of ${FILE_BYTES} bytes`;
}

function priceOfEntry(results, { few, files }) {
  const [small] = results.get(filesName(few));
  const [large] = results.get(filesName(files));
  return (large.peakBytes - small.peakBytes) / (files - few);
}

async function image({ layout, store, out }) {
  const { layers } = await storedImage(layout, store);
  return buildTimed(layers, { out });
}

function largeFile({ bytes, out }) {
  return buildTimed([{ name: "large", open: () => largeFileTar(bytes) }], { out });
}

function manyFiles({ files, out }) {
  return buildTimed([{ name: "many", open: () => manyFilesTar(files) }], { out });
}

function* largeFileTar(bytes) {
  const noise = randomFillSync(Buffer.alloc(CHUNK));
  yield fileHeader("noise", bytes);
  for (let written = 0; written < bytes; written += CHUNK) yield noise;
  yield END_OF_ARCHIVE;
}

function* manyFilesTar(files) {
  const contents = randomFillSync(Buffer.alloc(FILE_BYTES));
  let entries = [];
  for (let number = 0; number < files; number++) {
    entries.push(fileEntry(`d${Math.floor(number / FILES_A_DIRECTORY)}/file${number}`, contents));
    if (entries.length * 1024 < CHUNK) continue;
    yield Buffer.concat(entries);
    entries = [];
  }
  yield Buffer.concat([...entries, END_OF_ARCHIVE]);
}
