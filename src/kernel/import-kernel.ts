import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { exists, ioError, makePrivateDirectory, syncDirectory, writeNewFileSynced } from "../host/files.ts";
import { builtinDrivers } from "./builtin.ts";
import { decompress } from "./decompress.ts";
import { type KernelFormat, requireKernel } from "./format.ts";
import { formatManifest, MANIFEST_FILE, type StoredModule } from "./kernel.ts";
import { BOOT_MODULES, LATER_MODULES, OPTIONAL_MODULES, readModules } from "./modules.ts";

/** Where a kernel comes from. */
export interface KernelSource {
  /** A bzImage, an ELF vmlinux or an arm64 Image, compressed as a whole or not. */
  readonly image: string;
  /** `/lib/modules/<release>` of that kernel; without it everything must be built in. */
  readonly modulesDirectory?: string | undefined;
  /** Hexadecimal SHA-256 that the file must have. */
  readonly sha256?: string | undefined;
  /** Written down with the kernel, as {@link Kernel} has them. */
  readonly features?: readonly string[] | undefined;
  readonly buildKey?: string | undefined;
}

const IMAGE_FILES = { bzImage: "vmlinuz", elf: "vmlinux", image: "Image" } as const satisfies Record<
  KernelFormat,
  string
>;

/** Nice to have: a kernel without it boots all the same. */
const DISPENSABLE_MODULES: ReadonlySet<string> = new Set([
  "virtio_rng",
  "virtio_balloon",
  ...LATER_MODULES,
  ...OPTIONAL_MODULES,
]);

/**
 * Copies a kernel, and of its modules those that a guest needs, into the new directory `target`, which
 * appears whole or not at all, also when the host's power fails.
 * @throws FirectlError INVALID_ARGUMENT when it is no kernel that a guest can boot, DIGEST_MISMATCH, NAME_IN_USE
 *   when `target` is there already, FILE_NOT_FOUND.
 */
export async function importKernel(source: KernelSource, target: string): Promise<void> {
  const file = await readImage(source.image);
  requireDigest(file, source);
  const bytes = await decompress(file, source.image);
  const identity = requireKernel(bytes, source.image);
  const { modules, missing } =
    source.modulesDirectory === undefined
      ? { modules: [], missing: [] }
      : await readModules(source.modulesDirectory, [...BOOT_MODULES, ...LATER_MODULES, ...OPTIONAL_MODULES]);
  const lacking = missing.filter((name) => !DISPENSABLE_MODULES.has(name));
  if (lacking.length > 0) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the kernel ${identity.release ?? source.image} has neither built in nor as modules: ${lacking.join(", ")}`,
      {
        hint: "take a kernel made for virtual machines, for instance with: firectl kernel add --distribution",
      },
    );
  }
  const temporary = path.join(path.dirname(target), `.${randomUUID()}.tmp`);
  await makePrivateDirectory(temporary);
  try {
    const modulesDirectory = path.join(temporary, "modules");
    await mkdir(modulesDirectory);
    const stored: StoredModule[] = [];
    for (const { name, dependsOn, contents } of modules) {
      await writeNewFileSynced(path.join(modulesDirectory, `${name}.ko`), contents);
      stored.push({ name, dependsOn, sha256: createHash("sha256").update(contents).digest("hex") });
    }
    const image = IMAGE_FILES[identity.format];
    await writeNewFileSynced(path.join(temporary, image), bytes);
    const manifest = formatManifest({
      image,
      format: identity.format,
      release: identity.release,
      size: bytes.length,
      addedAt: new Date().toISOString(),
      modules: stored,
      builtin:
        source.modulesDirectory === undefined
          ? await builtinDrivers({ bytes, format: identity.format, file: source.image }, OPTIONAL_MODULES)
          : notAmong(OPTIONAL_MODULES, [...missing, ...modules.map(({ name }) => name)]),
      features: source.features,
      buildKey: source.buildKey,
    });
    await writeNewFileSynced(path.join(temporary, MANIFEST_FILE), manifest);
    for (const directory of [modulesDirectory, temporary]) await syncDirectory(directory);
    await rename(temporary, target);
    await syncDirectory(path.dirname(target));
  } catch (error) {
    const taken = errnoOf(error) === "ENOTEMPTY" || errnoOf(error) === "EEXIST";
    if (taken) throw new FirectlError("NAME_IN_USE", `a kernel "${path.basename(target)}" is there already`);
    throw ioError(`cannot write the kernel to ${target}`, error);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function notAmong(names: readonly string[], others: readonly string[]): string[] {
  return names.filter((name) => !others.includes(name));
}

function requireDigest(file: Buffer, { image, sha256 }: KernelSource): void {
  if (sha256 === undefined) return;
  const got = createHash("sha256").update(file).digest("hex");
  if (got === sha256) return;
  throw new FirectlError("DIGEST_MISMATCH", `${image}: expected SHA-256 ${sha256}, got ${got}`);
}

/** The release of a kernel file, for looking for its modules; undefined when it cannot be told. */
export async function releaseOfImage(image: string): Promise<string | undefined> {
  return requireKernel(await decompress(await readImage(image), image), image).release;
}

async function readImage(image: string): Promise<Buffer> {
  if (!(await exists(image))) throw new FirectlError("FILE_NOT_FOUND", `there is no kernel at ${image}`);
  try {
    return await readFile(image);
  } catch (error) {
    throw ioError(`cannot read ${image}`, error);
  }
}
