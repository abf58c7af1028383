import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { plainEnvironment } from "./programs.mjs";

const START_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

/**
 * Starts a program that serves, and waits until `isUp()` says true. What it says goes to the file `log`: nobody
 * reads a pipe while this process waits for a way to end. `stop()` ends it and waits for its end.
 */
export async function startDaemon(command, args, { isUp, log }) {
  const output = openSync(log, "w");
  const child = spawn(command, args, { env: plainEnvironment(), stdio: ["ignore", output, output] });
  closeSync(output);
  const kill = () => child.kill();
  process.once("exit", kill);
  const ended = new Promise((resolve) => {
    child.on("error", resolve);
    child.on("close", resolve);
  });
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await isUp().catch(() => false))) {
    if ((child.exitCode ?? child.signalCode) !== null || Date.now() > deadline) {
      child.kill();
      throw new Error(`${command} does not come up: ${readFileSync(log, "utf8").slice(-2000)}`);
    }
    await sleep(POLL_MS);
  }
  return {
    stop: async () => {
      child.kill();
      await ended;
      process.off("exit", kill);
    },
  };
}
