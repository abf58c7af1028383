/*
 * What VMs of one image cost the host in memory: one, two and ten of them, idle and after each has read all files of
 * the image, the image attached as a disk and as memory that they share.
 *
 *   npm run build && node bench/vm-memory.mjs [--vms N] [--memory SIZE] [--kernel NAME] [--only WORD,…] IMAGE
 *
 * IMAGE is any that firectl takes, whose own command goes on running (nginx), with sh, find and cat in it. Counted is
 * the PSS of Firecracker's processes; "host" is what the machine has in use beyond the start, its page cache included,
 * which tells something where nothing else runs and, as root, caches are dropped before. It uses firectl's own
 * directories: a kernel must be installed (`firectl setup`). MSB names microsandbox's program `msb`; beside it IMAGE
 * must be a reference that it has pulled, or MSB_IMAGE names its own.
 *
 * Of firectl all VMs counted go on from the snapshot of one that was there before, but for those "booted".
 *
 * Also shown: the same without the balloon that gives free pages back, its driver kept out by the kernel's arguments.
 */
import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { FIRECTL, findProgram, isRoot, possible, run } from "./lib/programs.mjs";
import { memoryOf, processesOf, settledMemoryOf, usedByMachine } from "./lib/pss.mjs";
import { figureText, introduce, printMarkdown } from "./lib/report.mjs";

const READ_ALL = "find / -xdev -type f -exec cat {} + >/dev/null";
const NO_BALLOON = "module_blacklist=virtio_balloon initcall_blacklist=virtio_balloon_driver_init";
const DROP_CACHES = "/proc/sys/vm/drop_caches";
const TARGET_PERCENT = 40;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vms: { type: "string", default: "10" },
    memory: { type: "string", default: "512m" },
    kernel: { type: "string" },
    only: { type: "string" },
  },
});
const [image] = positionals;
if (image === undefined) {
  console.error("usage: vm-memory.mjs [--vms N] [--memory SIZE] [--kernel NAME] [--only WORD,…] IMAGE");
  process.exit(2);
}
const counts = [...new Set([1, 2, Number(values.vms)])].filter((count) => count <= Number(values.vms));
const msb = findProgram(process.env.MSB ?? "msb");

const ways = possible([
  firectlWay("block", "--image-device", "block"),
  firectlWay("pmem", "--image-device", "pmem"),
  firectlWay("pmem booted", "--image-device", "pmem", "--boot-snapshot", "never"),
  firectlWay("pmem without balloon", "--image-device", "pmem", "--kernel-args", NO_BALLOON),
  microsandboxWay(),
]).filter(({ name }) => values.only === undefined || values.only.split(",").includes(name));

introduce(`Memory of VMs of ${image}, ${values.memory} each`);
const thp = "/sys/kernel/mm/transparent_hugepage/enabled";
if (existsSync(thp)) console.log(`Transparent huge pages: ${readFileSync(thp, "utf8").trim()}`);
const rows = [];
const seconds = [];
for (const way of ways) {
  way.start("bench-0");
  way.remove("bench-0");
  for (const state of ["idle", "image read"]) await measure(way, state);
}
printMarkdown(["way", "state", "VMs", "PSS MB", "of it files", "each further VM", "host MB"], rows);
console.log("");
for (const { name, state, percent } of seconds) {
  const figures = `the second VM adds ${figureText(percent)} % of the first one's memory`;
  const isTarget = name === "pmem";
  const verdict = percent <= TARGET_PERCENT ? "met" : "MISSED";
  console.log(`${isTarget ? `${verdict}: ` : ""}${name}, ${state}: ${figures}`);
  if (isTarget && verdict === "MISSED") process.exitCode = 1;
}

/** Lets the VMs become more, and takes the sum at each of the counts. */
async function measure(way, state) {
  if (isRoot()) writeFileSync(DROP_CACHES, "3");
  const before = usedByMachine();
  const names = [];
  let first;
  try {
    for (const count of counts) {
      while (names.length < count) {
        const name = `bench-${names.length + 1}`;
        names.push(name);
        way.start(name);
        if (state === "image read") way.exec(name, READ_ALL);
      }
      const { pss, file } = await settledMemoryOf(way.pids(names));
      first ??= pss;
      rows.push([
        ...[way.name, state, String(count), figureText(pss / 1e6), figureText(file / 1e6)],
        count === 1 ? "" : figureText((pss - first) / (count - 1) / 1e6),
        figureText((usedByMachine() - before) / 1e6),
      ]);
      console.error(`${rows.at(-1).slice(0, 4).join(", ")} MB`);
      if (count === 2) seconds.push({ name: way.name, state, percent: (100 * (pss - first)) / first });
    }
  } finally {
    for (const name of names) way.remove(name);
  }
}

function firectlWay(name, ...flags) {
  const kernel = values.kernel === undefined ? [] : ["--kernel", values.kernel];
  return {
    name,
    start: (vm) =>
      run(FIRECTL, [
        "run",
        "-d",
        "-q",
        "--vmm",
        "firecracker",
        "--name",
        vm,
        "-m",
        values.memory,
        ...kernel,
        ...flags,
        image,
      ]),
    exec: (vm, script) => run(FIRECTL, ["exec", vm, "sh", "-c", script]),
    pids: (vms) => vms.flatMap((vm) => vmmProcesses(JSON.parse(run(FIRECTL, ["inspect", vm])))),
    remove: (vm) => run(FIRECTL, ["rm", "-f", vm]),
  };
}

/** The VMM and what firectl keeps beside it. */
function vmmProcesses([{ firecrackerPid, companions }]) {
  return [firecrackerPid, ...companions.map(({ pid }) => pid)];
}

function microsandboxWay() {
  const other = process.env.MSB_IMAGE ?? image;
  return {
    name: "microsandbox",
    needs: [process.env.MSB ?? "msb"],
    start: (vm) => run(msb, ["run", "-d", "--name", vm, "-m", values.memory, other]),
    exec: (vm, script) => run(msb, ["exec", vm, "--", "sh", "-c", script]),
    pids: () => processesOf(realpathSync(msb)).filter((pid) => memoryOf([pid]).pss > 0),
    remove: (vm) => run(msb, ["rm", "-f", vm]),
  };
}
