/*
 * The smallest memory with which a VM does its work, found by halving:
 *
 *   npm run build && node bench/smallest-memory.mjs [--vmm VMM] [--kernel NAME] [--image-device KIND] \
 *     IMAGE [NODE-IMAGE]
 *
 * `true` ends with 0, nginx answers a request, Node says what it takes. IMAGE is any that firectl takes with nginx as
 * its command, sh and curl in it (the end-to-end tests' is one: .cache/images/nginx); NODE-IMAGE has `node`. It uses
 * firectl's own directories: a kernel must be installed (`firectl setup`). firectl itself allows no less than the
 * first figure of its table.
 */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { MIN_MEMORY_MIB } from "../dist/manager/vm-options.js";
import { FIRECTL, plainEnvironment } from "./lib/programs.mjs";
import { introduce, printMarkdown } from "./lib/report.mjs";

const MOST_MIB = 512;
const STEP_MIB = 4;
const VM = "bench-smallest";
/** A guest that is starved of memory may also go on and on without getting anywhere. */
const PATIENCE_SECONDS = 90;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vmm: { type: "string", default: "firecracker" },
    kernel: { type: "string" },
    "image-device": { type: "string", default: "auto" },
  },
});
const [image, nodeImage] = positionals;
if (image === undefined) {
  console.error(
    "usage: smallest-memory.mjs [--vmm VMM] [--kernel NAME] [--image-device KIND] IMAGE [NODE-IMAGE]",
  );
  process.exit(2);
}
const common = [
  ...["-q", "--vmm", values.vmm, "--name", VM, "--image-device", values["image-device"]],
  ...(values.kernel === undefined ? [] : ["--kernel", values.kernel]),
];

introduce("The smallest memory in which a VM works");
const rows = [["the least allowed", String(MIN_MEMORY_MIB)]];
rows.push(["true", smallest((mib) => runs(mib, image, "true"))]);
rows.push(["nginx, one request", smallest((mib) => serves(mib))]);
if (nodeImage !== undefined) {
  const script = "setTimeout(() => console.log(process.memoryUsage.rss()), 1000)";
  rows.push(["node, a timer", smallest((mib) => runs(mib, nodeImage, "node", "-e", script))]);
}
printMarkdown(["what runs", "MiB"], rows);

/** The least of the sizes allowed, in steps of 4 MiB, with which `works`, as text. */
function smallest(works) {
  let [fails, runsWith] = [MIN_MEMORY_MIB - STEP_MIB, MOST_MIB];
  if (!works(runsWith)) return `more than ${MOST_MIB}`;
  while (runsWith - fails > STEP_MIB) {
    const middle = fails + Math.ceil((runsWith - fails) / 2 / STEP_MIB) * STEP_MIB;
    if (works(middle)) runsWith = middle;
    else fails = middle;
  }
  return String(runsWith);
}

function runs(mib, ...command) {
  return firectl("run", "--rm", "--entrypoint", "", "-m", `${mib}m`, ...common, ...command);
}

function serves(mib) {
  const curl = "for i in 1 2 3 4 5 6 7 8 9; do curl -sf http://127.0.0.1/ && exit 0; sleep 1; done; exit 1";
  try {
    return firectl("run", "-d", "-m", `${mib}m`, ...common, image) && firectl("exec", VM, "sh", "-c", curl);
  } finally {
    firectl("rm", "-f", VM);
  }
}

function firectl(...args) {
  const env = plainEnvironment({ FIRECTL_BOOT_TIMEOUT: String(PATIENCE_SECONDS) });
  const { status } = spawnSync(FIRECTL, args, { env, stdio: "ignore", timeout: 3 * PATIENCE_SECONDS * 1000 });
  return status === 0;
}
