import { createHash } from "node:crypto";
import { readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { FirectlError, messageOf } from "../core/errors.ts";
import { exists, makePrivateDirectory } from "../host/files.ts";
import { runProgram } from "../host/process.ts";
import type { Kernel } from "./kernel.ts";
import type { Kernels } from "./kernel-store.ts";

export interface SourceOptions {
  readonly name?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FetchOptions extends SourceOptions {
  /** Used by one process at a time, and empty before and after: what a killed one left in it is removed. */
  readonly workDirectory: string;
}

/** Metapackages whose dependency is the newest kernel for virtual machines: Debian's, then Ubuntu's. */
const METAPACKAGES = {
  x64: ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"],
  arm64: ["linux-image-cloud-arm64", "linux-image-virtual", "linux-image-arm64"],
} as const;

/**
 * Installs the distribution's kernel for virtual machines from its package, which is unpacked and not
 * installed: no rights are needed and the host's own kernel is not touched.
 * @throws FirectlError KERNEL_NOT_FOUND without apt, and when no such package is on offer.
 */
export async function installDistributionKernel(kernels: Kernels, options: FetchOptions): Promise<Kernel> {
  const packages = await kernelPackages(options.signal);
  return inWorkDirectory(options, async (directory) => {
    await runProgram("apt-get", ["download", "-q", ...packages], { cwd: directory, signal: options.signal });
    const root = path.join(directory, "root");
    for (const file of (await readdir(directory)).filter((name) => name.endsWith(".deb"))) {
      await runProgram("dpkg-deb", ["-x", path.join(directory, file), root], { signal: options.signal });
    }
    const image = (await readdir(path.join(root, "boot"))).find((name) => name.startsWith("vmlinuz-"));
    if (image === undefined) throw new FirectlError("KERNEL_NOT_FOUND", `${packages[0]} holds no kernel`);
    const release = image.slice("vmlinuz-".length);
    const libraries = [path.join(root, "lib/modules", release), path.join(root, "usr/lib/modules", release)];
    const [modulesDirectory] = await filterAsync(libraries, exists);
    return kernels.add({
      image: path.join(root, "boot", image),
      modulesDirectory,
      name: options.name ?? release,
    });
  });
}

/** Installs the kernel `release` of this host, by default the one that runs. */
export async function addHostKernel(
  kernels: Kernels,
  options: SourceOptions & { readonly release: string },
): Promise<Kernel> {
  const { release } = options;
  const [image] = await filterAsync([`/boot/vmlinuz-${release}`, `/lib/modules/${release}/vmlinuz`], exists);
  if (image === undefined) {
    throw new FirectlError("KERNEL_NOT_FOUND", `this host has no kernel ${release} in /boot or /lib/modules`);
  }
  return kernels.add({ image, modulesDirectory: `/lib/modules/${release}`, name: options.name ?? release });
}

/** More than any kernel image has. */
const MAX_DOWNLOAD_BYTES = 512 * 1024 * 1024;

/**
 * Downloads a kernel with everything built in, and installs it if it is the one that was meant.
 * @throws FirectlError DIGEST_MISMATCH, REGISTRY_UNREACHABLE when the download fails.
 */
export async function downloadKernel(
  kernels: Kernels,
  options: FetchOptions & { readonly url: string; readonly sha256: string },
): Promise<Kernel> {
  const wanted = options.sha256.toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(wanted)) {
    throw new FirectlError("INVALID_ARGUMENT", `"${options.sha256}" is not a SHA-256: 64 hexadecimal digits`);
  }
  const bytes = await download(options.url, options.signal);
  const got = createHash("sha256").update(bytes).digest("hex");
  if (got !== wanted) {
    throw new FirectlError("DIGEST_MISMATCH", `${options.url}: expected SHA-256 ${wanted}, got ${got}`);
  }
  return inWorkDirectory(options, async (directory) => {
    const image = path.join(directory, "kernel");
    await writeFile(image, bytes);
    return kernels.add({ image, name: options.name });
  });
}

async function download(url: string, signal: AbortSignal | undefined): Promise<Buffer> {
  try {
    const response = await fetch(url, { signal: signal ?? null });
    if (!response.ok || response.body === null) throw new Error(`status ${response.status}`);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body) {
      const bytes = new Uint8Array(chunk);
      size += bytes.length;
      if (size > MAX_DOWNLOAD_BYTES) throw new Error(`longer than ${MAX_DOWNLOAD_BYTES} bytes`);
      chunks.push(bytes);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    signal?.throwIfAborted();
    throw new FirectlError("REGISTRY_UNREACHABLE", `cannot download ${url}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The package that holds the kernel, and the one with its modules where that is apart (Ubuntu). */
async function kernelPackages(signal: AbortSignal | undefined): Promise<string[]> {
  const architecture = process.arch === "arm64" ? "arm64" : "x64";
  for (const metapackage of METAPACKAGES[architecture]) {
    const image = (await dependenciesOf(metapackage, signal)).find((name) => /^linux-image-\d/.test(name));
    if (image === undefined) continue;
    const modules = (await dependenciesOf(image, signal)).filter((name) => /^linux-modules-\d/.test(name));
    return [image, ...modules];
  }
  throw new FirectlError("KERNEL_NOT_FOUND", "apt knows no kernel package for virtual machines", {
    hint: "run apt-get update, or give a kernel of your own with: firectl kernel add FILE",
  });
}

async function dependenciesOf(name: string, signal: AbortSignal | undefined): Promise<string[]> {
  const options = ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
  const output = await runProgram("apt-cache", ["depends", ...options, name], { signal }).catch(
    (error: unknown) => {
      // apt-cache fails for a package that it does not know.
      if (error instanceof FirectlError && error.code === "PROCESS_FAILED") return "";
      if (!(error instanceof FirectlError) || error.code !== "TOOL_MISSING") throw error;
      const message = "there is no apt on this host to take the distribution's kernel from";
      const hint = "give a kernel of your own: firectl kernel add FILE --modules DIR";
      throw new FirectlError("KERNEL_NOT_FOUND", message, { hint, cause: error });
    },
  );
  return [...output.matchAll(/Depends: (\S+)/g)].map((match) => match[1] ?? "");
}

async function inWorkDirectory<T>(
  { workDirectory }: FetchOptions,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  await rm(workDirectory, { recursive: true, force: true });
  await makePrivateDirectory(workDirectory);
  try {
    return await work(workDirectory);
  } finally {
    await rm(workDirectory, { recursive: true, force: true });
  }
}

async function filterAsync<T>(values: readonly T[], holds: (value: T) => Promise<boolean>): Promise<T[]> {
  const kept: T[] = [];
  for (const value of values) if (await holds(value)) kept.push(value);
  return kept;
}
