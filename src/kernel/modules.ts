import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { ioError, readTextIfPresent } from "../host/files.ts";
import { decompress } from "./decompress.ts";

/** What firectl's guests load at boot, in any order: their dependencies come along. */
export const BOOT_MODULES: readonly string[] = [
  "virtio_mmio",
  "virtio_blk",
  "vmw_vsock_virtio_transport",
  "overlay",
  "ext4",
];

/** What a guest loads besides, whose image is attached as persistent memory. */
export const PMEM_MODULES: readonly string[] = ["virtio_pmem", "nd_pmem"];

/**
 * What they load when the workload runs already: the host's random numbers (the processor's are there from the
 * beginning), its clock, for guests of KVM, and what gives memory back to it.
 */
export const LATER_MODULES: readonly string[] = ["virtio_rng", "ptp_kvm", "virtio_balloon"];

/** What a guest loads besides that has a directory of the host live. */
export const SHARE_MODULES: readonly string[] = ["fuse"];

/** What a guest loads besides that has a network. */
export const NETWORK_MODULES: readonly string[] = ["virtio_net"];

/** Kept with a kernel that has them, for what a guest may be given later. */
export const OPTIONAL_MODULES: readonly string[] = [
  "erofs",
  ...NETWORK_MODULES,
  ...PMEM_MODULES,
  ...SHARE_MODULES,
];

/** A module of a kernel, decompressed. */
export interface KernelModule {
  /** With underscores, as `lsmod` shows it. */
  readonly name: string;
  /** Names of the modules that must be loaded before it. */
  readonly dependsOn: readonly string[];
  readonly contents: Buffer;
}

/**
 * Reads `wanted` and what they depend on from a modules directory (`/lib/modules/<release>`), in the order in
 * which they can be loaded. What is built into the kernel is left out, what it does not have at all is
 * returned as missing. Dependencies are read from the modules themselves: packages come without modules.dep.
 */
export async function readModules(
  directory: string,
  wanted: readonly string[],
): Promise<{ modules: KernelModule[]; missing: string[] }> {
  const [files, builtin] = await Promise.all([moduleFiles(directory), builtinModules(directory)]);
  const ordered = new Map<string, KernelModule>();
  const missing: string[] = [];
  const visiting = new Set<string>();
  const visit = async (name: string): Promise<boolean> => {
    if (ordered.has(name) || visiting.has(name)) return true;
    const file = files.get(name);
    if (file === undefined) return builtin.has(name);
    visiting.add(name);
    const contents = await decompress(await readFile(file), file);
    const info = moduleInfo(contents, file);
    const dependsOn: string[] = [];
    for (const before of info.dependsOn) {
      if (!(await visit(before))) missing.push(before);
      else if (files.has(before)) dependsOn.push(before);
    }
    for (const before of info.softDependencies.flatMap(softCandidates)) {
      if ((await visit(before)) && files.has(before)) dependsOn.push(before);
    }
    visiting.delete(name);
    ordered.set(name, { name, dependsOn, contents });
    return true;
  };
  for (const name of wanted) {
    if (!(await visit(name))) missing.push(name);
  }
  return { modules: [...ordered.values()], missing };
}

/**
 * Modules that a soft dependency may mean: it names a module or an alias, and the aliases that matter here are
 * those of the crypto API, whose portable implementation is called `<algorithm>_generic`.
 */
function softCandidates(name: string): string[] {
  const algorithm = name.replace(/^crypto_/, "");
  return [name, algorithm, `${algorithm}_generic`];
}

/**
 * The order in which `wanted` can be loaded, given what each of `modules` depends on. Names that are not
 * among `modules` are built in.
 */
export function loadOrder(
  modules: ReadonlyArray<Pick<KernelModule, "name" | "dependsOn">>,
  wanted: readonly string[],
): string[] {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const order = new Set<string>();
  const visit = (name: string, above: readonly string[]): void => {
    const module = byName.get(name);
    if (module === undefined || order.has(name) || above.includes(name)) return;
    for (const before of module.dependsOn) visit(before, [...above, name]);
    order.add(name);
  };
  for (const name of wanted) visit(name, []);
  return [...order];
}

const MODULE_FILE = /^(.+)\.ko(?:\.(?:gz|xz|zst))?$/;

async function moduleFiles(directory: string): Promise<Map<string, string>> {
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = new Map<string, string>();
    for (const entry of entries) {
      const name = entry.isFile() ? MODULE_FILE.exec(entry.name)?.[1] : undefined;
      // `path` is the directory in Node 20, deprecated later in favour of parentPath, which 20.11 lacks.
      if (name !== undefined)
        files.set(normalName(name), path.join(entry.parentPath ?? entry.path, entry.name));
    }
    return files;
  } catch (error) {
    throw ioError(`cannot read the modules in ${directory}`, error);
  }
}

async function builtinModules(directory: string): Promise<Set<string>> {
  const list = (await readTextIfPresent(path.join(directory, "modules.builtin"))) ?? "";
  return new Set(
    list
      .split("\n")
      .map((line) => normalName(path.basename(line, ".ko")))
      .filter((name) => name !== ""),
  );
}

interface ModuleInfo {
  readonly dependsOn: readonly string[];
  readonly softDependencies: readonly string[];
}

/** Offsets in an ELF64 header and in a section header, elf(5). */
const SECTION_TABLE_OFFSET = 0x28;
const SECTION_COUNT_OFFSET = 0x3c;
const SECTION_NAMES_OFFSET = 0x3e;
const SECTION_HEADER_BYTES = 64;

/**
 * What a module says of itself in its section .modinfo: `key=value` strings, each closed by a zero.
 * @throws FirectlError INVALID_ARGUMENT when it is not a module.
 */
export function moduleInfo(contents: Buffer, file: string): ModuleInfo {
  const section = modinfoSection(contents);
  if (section === undefined) throw new FirectlError("INVALID_ARGUMENT", `${file} is not a kernel module`);
  const info: { dependsOn: string[]; softDependencies: string[] } = { dependsOn: [], softDependencies: [] };
  for (const entry of section.toString("latin1").split("\0")) {
    if (entry.startsWith("depends=")) {
      info.dependsOn = entry.slice("depends=".length).split(",").filter(Boolean).map(normalName);
    } else if (entry.startsWith("softdep=")) {
      const before = /\bpre:\s*([^:]*?)(?:\s*\bpost:|$)/.exec(entry)?.[1] ?? "";
      info.softDependencies.push(...before.split(/\s+/).filter(Boolean).map(normalName));
    }
  }
  return info;
}

function modinfoSection(contents: Buffer): Buffer | undefined {
  if (contents.length < SECTION_HEADER_BYTES || contents.readUInt32LE(0) !== 0x464c457f) return undefined;
  const table = Number(contents.readBigUInt64LE(SECTION_TABLE_OFFSET));
  const count = contents.readUInt16LE(SECTION_COUNT_OFFSET);
  if (table + count * SECTION_HEADER_BYTES > contents.length) return undefined;
  const sectionAt = (index: number): { name: number; bytes: Buffer } => {
    const header = contents.subarray(table + index * SECTION_HEADER_BYTES);
    const start = Number(header.readBigUInt64LE(24));
    return {
      name: header.readUInt32LE(0),
      bytes: contents.subarray(start, start + Number(header.readBigUInt64LE(32))),
    };
  };
  const namesIndex = contents.readUInt16LE(SECTION_NAMES_OFFSET);
  if (namesIndex >= count) return undefined;
  const names = sectionAt(namesIndex).bytes;
  for (let index = 0; index < count; index++) {
    const { name, bytes } = sectionAt(index);
    if (names.subarray(name, name + 9).toString("latin1") === ".modinfo\0") return bytes;
  }
  return undefined;
}

function normalName(name: string): string {
  return name.replaceAll("-", "_");
}
