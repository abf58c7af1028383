import type { KernelFormat } from "./format.ts";

/** A module kept with a kernel, decompressed, as `modules/<name>.ko` in its directory. */
export interface StoredModule {
  readonly name: string;
  readonly dependsOn: readonly string[];
  /** Hexadecimal SHA-256 of the file. */
  readonly sha256: string;
}

/** A kernel that guests can boot. */
export interface Kernel {
  readonly name: string;
  /** Absolute path of its directory. */
  readonly directory: string;
  /** File name of the kernel in `directory`. */
  readonly image: string;
  readonly format: KernelFormat;
  /** `uname -r` of it, where it could be told. */
  readonly release: string | undefined;
  /** Bytes of the image file. */
  readonly size: number;
  /** RFC 3339. */
  readonly addedAt: string;
  /** Empty for a kernel that has everything built in. */
  readonly modules: readonly StoredModule[];
  /** Optional drivers that are built in, by their modules' names; undefined where nobody looked. */
  readonly builtin?: readonly string[] | undefined;
  /** What it has built in, in the words of kernel/features.conf; absent for one of which that is not known. */
  readonly features?: readonly string[] | undefined;
  /** Of a kernel that firectl has built: the same for the same kernel. */
  readonly buildKey?: string | undefined;
}

/** The manifest's name in a kernel's directory. */
export const MANIFEST_FILE = "kernel.json";

/** Increased when a manifest of an earlier firectl can no longer be read. */
const MANIFEST_VERSION = 1;

/** Writes the manifest; the directory's name is the kernel's. */
export function formatManifest(kernel: Omit<Kernel, "name" | "directory">): string {
  return `${JSON.stringify({ version: MANIFEST_VERSION, ...kernel }, undefined, 2)}\n`;
}

/** Reads a manifest; undefined when it is not one. By hand: it is read at each start of a VM. */
export function parseManifest(text: string, place: Pick<Kernel, "name" | "directory">): Kernel | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || value["version"] !== MANIFEST_VERSION) return undefined;
  const { image, format, release, size, addedAt, modules, builtin, features, buildKey } = value;
  if (typeof image !== "string" || image.includes("/")) return undefined;
  if (format !== "bzImage" && format !== "elf" && format !== "image") return undefined;
  if (release !== undefined && typeof release !== "string") return undefined;
  if (typeof size !== "number" || typeof addedAt !== "string" || !Array.isArray(modules)) return undefined;
  const stored = modules.map(parseModule);
  if (!stored.every((module) => module !== undefined)) return undefined;
  if (features !== undefined && !isNames(features)) return undefined;
  if (buildKey !== undefined && typeof buildKey !== "string") return undefined;
  const known = { ...(isNames(builtin) ? { builtin } : {}), features, buildKey };
  return { ...place, image, format, release, size, addedAt, modules: stored, ...known };
}

function parseModule(value: unknown): StoredModule | undefined {
  if (!isObject(value)) return undefined;
  const { name, dependsOn, sha256 } = value;
  if (typeof name !== "string" || !/^\w+$/.test(name)) return undefined;
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return undefined;
  if (!isNames(dependsOn)) return undefined;
  return { name, dependsOn, sha256 };
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === "string");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
