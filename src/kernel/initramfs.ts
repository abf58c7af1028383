import { createHash } from "node:crypto";
import { type BigIntStats, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { sha256Hex } from "../core/sha256.ts";
import { exists, ioError, makePrivateDirectory, readTextIfPresent, writeFileAtomic } from "../host/files.ts";
import { type CpioEntry, packCpio } from "./cpio.ts";
import type { Kernel } from "./kernel.ts";
import { BOOT_MODULES, LATER_MODULES, loadOrder } from "./modules.ts";

export interface InitramfsOptions {
  readonly kernel: Kernel;
  /** The guest's PID 1, a static binary. */
  readonly agentPath: string;
  readonly cacheDir: string;
  /** Modules to load besides those that every guest needs. */
  readonly modules?: readonly string[];
}

/** Increased when the same inputs make another archive. */
const LAYOUT_VERSION = 2;

/**
 * Path of the initramfs of a kernel: the agent as /init, and the modules that the kernel needs at boot as
 * /modules/<NN>-<name>.ko in the order of loading, those for later in /modules/later. Made once for each
 * content, uncompressed: the guest's kernel unpacks nothing faster than it copies.
 * @throws FirectlError FILE_NOT_FOUND when the agent is missing.
 */
export async function buildInitramfs(options: InitramfsOptions): Promise<string> {
  const order = orderOf(options);
  const later = laterModules(options);
  const target = await initramfsPath(options);
  if (await exists(target)) return target;
  const entries: CpioEntry[] = [
    { kind: "directory", name: "dev", mode: 0o755 },
    // Without it PID 1 starts with no descriptors at all, and what it says before mounting /dev is lost.
    { kind: "character device", name: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "directory", name: "modules", mode: 0o755 },
  ];
  if (later.length > 0) entries.push({ kind: "directory", name: "modules/later", mode: 0o755 });
  for (const [index, name] of [...order, ...later].entries()) {
    const contents = await readFile(path.join(options.kernel.directory, "modules", `${name}.ko`));
    const number = String(index).padStart(2, "0");
    const place = index < order.length ? "modules" : "modules/later";
    entries.push({ kind: "file", name: `${place}/${number}-${name}.ko`, mode: 0o644, contents });
  }
  entries.push({ kind: "file", name: "init", mode: 0o755, contents: await readFile(options.agentPath) });
  await writeFileAtomic(target, packCpio(entries));
  return target;
}

/**
 * Where {@link buildInitramfs} puts the archive.
 * @throws FirectlError FILE_NOT_FOUND when the agent is missing.
 */
export async function initramfsPath(options: InitramfsOptions): Promise<string> {
  const order = [...orderOf(options), ...laterModules(options)];
  const hashes = order.map((name) => options.kernel.modules.find((module) => module.name === name)?.sha256);
  const key = sha256Hex([LAYOUT_VERSION, await agentHash(options), ...order, ...hashes].join("\n"));
  return path.join(options.cacheDir, `${key}.cpio`);
}

function orderOf(options: Pick<InitramfsOptions, "kernel" | "modules">): string[] {
  return loadOrder(options.kernel.modules, [...BOOT_MODULES, ...(options.modules ?? [])]);
}

/** What is loaded when the workload runs already, in order. */
function laterModules(options: Pick<InitramfsOptions, "kernel" | "modules">): string[] {
  const atBoot = new Set(orderOf(options));
  return loadOrder(options.kernel.modules, LATER_MODULES).filter((name) => !atBoot.has(name));
}

/** Where the agent's SHA-256 is kept. @throws FirectlError FILE_NOT_FOUND when the agent is missing. */
export async function agentMemoPath({
  agentPath,
  cacheDir,
}: Pick<InitramfsOptions, "agentPath" | "cacheDir">): Promise<string> {
  const found = lookAtAgent(agentPath);
  const state = `${agentPath}\0${found.ino}\0${found.size}\0${found.mtimeNs}`;
  return path.join(cacheDir, `agent-${sha256Hex(state).slice(0, 32)}`);
}

function lookAtAgent(agentPath: string): BigIntStats {
  try {
    return statSync(agentPath, { bigint: true });
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at ${agentPath}`, error);
    throw new FirectlError("FILE_NOT_FOUND", `the guest agent is missing: ${agentPath}`, {
      hint: "install firectl again, or build the agent with: make agent",
    });
  }
}

/** The agent's SHA-256, kept beside the archives for as long as the file's size and time stay the same. */
async function agentHash(options: InitramfsOptions): Promise<string> {
  const { agentPath, cacheDir } = options;
  const memo = await agentMemoPath(options);
  const known = await readTextIfPresent(memo);
  if (known !== undefined && /^[0-9a-f]{64}$/.test(known)) return known;
  const hash = createHash("sha256")
    .update(await readFile(agentPath))
    .digest("hex");
  await makePrivateDirectory(cacheDir);
  await writeFileAtomic(memo, hash);
  return hash;
}
