import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { plainEnvironment } from "./programs.mjs";

const FLAG = "--in-child";

/**
 * Runs `tasks[name](argument)` in a fresh process of the script at `url`: a heap of its own, whose most is known
 * afterwards, and nothing compiled before. Returns what the task returns, with `peakBytes`.
 */
export function inChild(url, name, { argument = {}, env = {} } = {}) {
  const child = spawnSync(process.execPath, [fileURLToPath(url), FLAG, JSON.stringify({ name, argument })], {
    env: plainEnvironment(env),
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (child.status !== 0) throw new Error(`task ${name} ended with ${child.status ?? child.signal}`);
  return JSON.parse(child.stdout);
}

/** In such a process: does the task and says true. The script then has nothing else to do. */
export async function isChildDoing(tasks) {
  const [flag, order] = process.argv.slice(2);
  if (flag !== FLAG) return false;
  const { name, argument } = JSON.parse(order);
  const figures = await tasks[name](argument);
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  process.stdout.write(JSON.stringify({ ...figures, peakBytes }));
  return true;
}
