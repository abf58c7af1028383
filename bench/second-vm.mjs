/*
 * What a further VM of an image costs that is built already: finding its base filesystem, and making its own
 * writable disk.
 *
 *   npm run build && node bench/second-vm.mjs [--rounds N] [--disk-gib N] LAYOUT
 */
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { obtainBaseImage } from "../dist/manager/base-image.js";
import { makeBlankDisk } from "../dist/manager/blank-disks.js";
import { storedImage } from "./lib/build.mjs";
import { diskBytesOf } from "./lib/files.mjs";
import { possible, run } from "./lib/programs.mjs";
import { introduce, judge, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { timed } from "./lib/timed.mjs";

const BASE = "firectl, the base that is there";
const DISK = "firectl, writable disk";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "20" }, "disk-gib": { type: "string", default: "10" } },
});
const [layout] = positionals;
if (layout === undefined) {
  console.error("usage: second-vm.mjs [--rounds N] [--disk-gib N] LAYOUT");
  process.exit(2);
}
await withScratch(measure);

async function measure(scratch) {
  const sizeBytes = Number(values["disk-gib"]) * 2 ** 30;
  introduce(`A further VM of the same image; a disk of ${values["disk-gib"]} GiB; ${values.rounds} rounds`);
  const { context, image } = await storedImage(layout, scratch.make("store"));
  await obtainBaseImage(context, image, {});
  const out = scratch.at("disk");
  const timedDisk = async (make) => {
    const { ms } = await timed(make);
    return { ms, diskBytes: diskBytesOf(out) };
  };
  const ways = [
    {
      name: BASE,
      run: async () => {
        if ((await obtainBaseImage(context, image, {})).built) throw new Error("the base was built again");
      },
    },
    {
      name: DISK,
      run: () =>
        timedDisk(() => makeBlankDisk({ path: out, sizeBytes, dataDirectory: context.directories.data })),
    },
    {
      name: "mkfs.ext4 of a sparse file",
      needs: ["mkfs.ext4"],
      run: () =>
        timedDisk(() => {
          run("truncate", ["-s", String(sizeBytes), out]);
          run("mkfs.ext4", ["-q", "-F", out]);
        }),
    },
  ].map((way) => ({ ...way, reset: () => rmSync(out, { force: true }) }));
  const results = await alternate(possible(ways), { rounds: Number(values.rounds), warmUp: 2 });
  printTable(results, { title: "what is made" });
  judge(results, [
    { way: DISK, figure: "ms", unit: "ms", atMost: 5 },
    { way: DISK, figure: "diskBytes", unit: "MB", atMost: 1 },
    { way: BASE, figure: "ms", unit: "ms", atMost: 5 },
  ]);
}
