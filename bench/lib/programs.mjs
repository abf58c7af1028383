import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The command line under measurement. */
export const FIRECTL = fileURLToPath(new URL("../../bin/firectl", import.meta.url));

/**
 * The environment of what is measured. NODE_EXTRA_CA_CERTS adds some 30 ms to each start of Node, and a user's
 * machine rarely has it.
 */
export function plainEnvironment(added = {}) {
  const { NODE_EXTRA_CA_CERTS: _slow, ...env } = process.env;
  return { ...env, ...added };
}

/** Directories of firectl below `root`, so that nothing of the user's is touched. */
export function directoriesBelow(root) {
  return {
    FIRECTL_CONFIG_DIR: `${root}/config`,
    FIRECTL_DATA_DIR: `${root}/data`,
    FIRECTL_RUNTIME_DIR: `${root}/run`,
  };
}

/** Where `name` is, looked up as a shell does: on PATH, or the path itself. Undefined when it cannot be run. */
export function findProgram(name) {
  const candidates = name.includes("/")
    ? [name]
    : (process.env.PATH ?? "").split(":").map((directory) => path.join(directory, name));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export function isRoot() {
  return process.getuid?.() === 0;
}

/**
 * Of `ways`, those whose `needs` are here; the others are named. A need is the name of a program, or
 * `{ what, isHere }`.
 */
export function possible(ways) {
  return ways.filter(({ name, needs = [] }) => {
    const missing = needs.find((need) => (need.what === undefined ? !findProgram(need) : !need.isHere));
    if (missing !== undefined) console.log(`left out: ${name} (no ${missing.what ?? missing} here)`);
    return missing === undefined;
  });
}

export const ROOT = { what: "root", isHere: isRoot() };

/** Runs a program to its end. Its output is returned, and a failure is thrown with what it said. */
export function run(command, args, { env = plainEnvironment(), input } = {}) {
  const result = spawnSync(command, args, { env, input, encoding: "utf8", maxBuffer: 2 ** 26 });
  refuseFailure(command, args, result);
  return result.stdout;
}

/** As run() but for several at once: the output goes to nowhere, and the event loop stays free. */
export function runAside(command, args, { env = plainEnvironment() } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.on("close", (status) => {
      try {
        resolve(refuseFailure(command, args, { status, stderr }));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** Runs a program and tells its time and, where GNU time is here, the most memory that one process of it took. */
export function measured(command, args, { env, report }) {
  const gnuTime = findProgram("/usr/bin/time");
  const wrapped =
    gnuTime === undefined ? [command, ...args] : [gnuTime, "-f", "%M", "-o", report, command, ...args];
  const start = performance.now();
  run(wrapped[0], wrapped.slice(1), { env });
  const ms = performance.now() - start;
  if (!existsSync(report)) return { ms };
  return { ms, peakBytes: Number(readFileSync(report, "utf8").trim().split("\n").at(-1)) * 1024 };
}

function refuseFailure(command, args, { error, status, stderr }) {
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")} ended with ${status}: ${stderr}`);
}
