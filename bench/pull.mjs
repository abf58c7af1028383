/*
 * An image from a registry on loopback to a filesystem, beside what others need for their kind of the same:
 *
 *   npm run build && node bench/pull.mjs [--rounds N] [--only WAY,…] LAYOUT...
 *
 * LAYOUT is an OCI layout of gzip layers, best one of images.sh. Each round pulls a fresh variant of the image
 * (lib/variants.mjs), so that nobody has any of it yet. Registry, dockerd, podman, microsandbox and firectl work in
 * directories of their own below $TMPDIR, some 5 GB a round for the image `big`; all of it is removed at the end.
 *
 * It needs docker-registry. The others are used where they are found: docker and podman (root), skopeo, umoci,
 * microsandbox (MSB names its `msb`; its home must be on ext4). --only takes the beginnings of names.
 */
import { parseArgs } from "node:util";
import { CLASSIC, DOCKER, docker } from "./lib/docker.mjs";
import { readLayout } from "./lib/oci-layout.mjs";
import { findProgram, possible, ROOT } from "./lib/programs.mjs";
import { NAMES, pullers } from "./lib/pullers.mjs";
import { push, startRegistry } from "./lib/registry.mjs";
import { introduce, judge, printTable } from "./lib/report.mjs";
import { alternate } from "./lib/rounds.mjs";
import { withScratch } from "./lib/scratch.mjs";
import { freshVariant, tinyImage } from "./lib/variants.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "3" }, only: { type: "string", default: "" } },
});
if (positionals.length === 0 || findProgram("docker-registry") === undefined) {
  console.error("usage: pull.mjs [--rounds N] [--only WAY,...] LAYOUT...     (it needs docker-registry)");
  process.exit(2);
}
const wanted = values.only.split(",");
for (const layout of positionals) await withScratch((scratch) => measure(readLayout(layout), scratch));

async function measure(original, scratch) {
  const { name, layers } = original;
  const bytes = layers.reduce((sum, { size }) => sum + size, 0);
  introduce(
    `${name} (${layers.length} layers, ${(bytes / 1e6).toFixed(0)} MB) from a registry; ${values.rounds} rounds`,
  );
  const registry = await startRegistry(scratch);
  let image;
  let reference;
  const setting = { registry, repository: name, scratch, current: () => ({ image, reference }) };
  const ways = [];
  try {
    ways.push(...(await waysFor(setting)));
    const results = await alternate(ways, {
      rounds: Number(values.rounds),
      warmUp: 1,
      prepare: async (round) => {
        image = await (round < 0 ? tinyImage() : freshVariant(original));
        reference = await push(registry, `${name}:round${round < 0 ? "-warm-up" : round}`, image);
      },
    });
    printTable(results, { title: name, beside: [NAMES.microsandbox, DOCKER, CLASSIC] });
    judge(results, targets());
    console.log("");
  } finally {
    for (const way of ways) await way.stop?.();
    await registry.stop();
  }
}

async function waysFor(setting) {
  const withDaemon = { name: DOCKER, needs: ["dockerd", "docker", ROOT] };
  const isWanted = ({ name }) => wanted.some((beginning) => name.startsWith(beginning));
  const ways = possible([withDaemon, ...pullers(setting)].filter(isWanted));
  return Promise.all(ways.map((way) => (way === withDaemon ? docker(setting) : way)));
}

function targets() {
  const way = NAMES.firectl;
  return [
    { way, beside: NAMES.microsandbox, atMost: 0.8 },
    { way, beside: DOCKER, atMost: 0.35 },
    { way, beside: CLASSIC, atMost: 0.2 },
    { way, figure: "peakBytes", unit: "MB", atMost: 200 },
  ];
}
