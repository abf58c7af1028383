import { rm, stat } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { tryFileLock, withFileLock } from "../host/file-lock.ts";
import { exists } from "../host/files.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { addHostKernel, downloadKernel, installDistributionKernel } from "../kernel/sources.ts";
import type { AddKernelOptions, KernelSummary } from "./api.ts";
import type { Context } from "./context.ts";
import { dataLock } from "./data-locks.ts";
import { removalOf } from "./records.ts";

/** The installed kernels, by name. */
export async function listKernels(context: Context): Promise<readonly KernelSummary[]> {
  const kernels = await context.kernels();
  const [all, standard] = await Promise.all([kernels.list(), kernels.default()]);
  return all.map((kernel) => summaryOf(kernel, kernel.name === standard?.name));
}

/**
 * Installs a kernel: a file, a download with its SHA-256, or the distribution's package; failing the package,
 * the kernel that this host runs.
 * @throws FirectlError as the source does.
 */
export async function addKernel(context: Context, options: AddKernelOptions): Promise<KernelSummary> {
  const kernel = await exclusively(context, options.signal, () => addFrom(context, options));
  const kernels = await context.kernels();
  if (options.makeDefault ?? false) await kernels.setDefault(kernel.name);
  const standard = await kernels.default();
  return summaryOf(kernel, kernel.name === standard?.name);
}

/**
 * Installs a kernel as the default unless there is one by now: the download that the configuration pins, else
 * the distribution's. Of several first runs at once, one installs it.
 */
export async function ensureDefaultKernel(context: Context, signal?: AbortSignal): Promise<Kernel> {
  const kernels = await context.kernels();
  return exclusively(context, signal, async () => {
    const meanwhile = await kernels.default();
    return meanwhile ?? addStandardKernel(context, signal === undefined ? {} : { signal });
  });
}

async function addStandardKernel(context: Context, options: { signal?: AbortSignal }): Promise<Kernel> {
  const { kernelUrl: source, kernelSha256: sha256 } = context.settings;
  if (source === undefined || sha256 === undefined) return addFromThisMachine(context, options);
  try {
    return await addFrom(context, { ...options, source, sha256 });
  } catch (error) {
    // Where the network does not allow it, the distribution's does as well; a wrong checksum is no such case.
    if (error instanceof FirectlError && error.code === "REGISTRY_UNREACHABLE") {
      return addFromThisMachine(context, options);
    }
    throw error;
  }
}

/** Removes what an installation that was killed has left; does nothing while one is at work. */
export async function sweepKernelWork(context: Context): Promise<void> {
  const directory = workDirectoryOf(context);
  if (!(await exists(directory))) return;
  await tryFileLock(await lockOf(context), () => rm(directory, { recursive: true, force: true }));
}

/** A download on a slow line and the unpacking of a package are waited for. */
const INSTALL_TIMEOUT_MS = 15 * 60_000;

async function exclusively<T>(
  context: Context,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  return withFileLock(await lockOf(context), { timeoutMs: INSTALL_TIMEOUT_MS, signal }, work);
}

function lockOf(context: Context): Promise<string> {
  return dataLock(context, "kernels");
}

function workDirectoryOf(context: Context): string {
  return path.join(context.directories.data, "kernel-work");
}

async function addFrom(context: Context, options: AddKernelOptions): Promise<Kernel> {
  const kernels = await context.kernels();
  const { source, name, signal } = options;
  if (source === undefined) return addFromThisMachine(context, options);
  if (/^https?:\/\//.test(source)) {
    if (options.sha256 === undefined) {
      throw new FirectlError("INVALID_ARGUMENT", `a download needs its SHA-256: ${source}`);
    }
    return downloadKernel(kernels, {
      url: source,
      sha256: options.sha256,
      name,
      signal,
      workDirectory: workDirectoryOf(context),
    });
  }
  const file = path.resolve(source);
  if (await isDirectory(file)) return addBuiltKernel(context, file, name);
  return kernels.add({
    image: file,
    modulesDirectory: options.modulesDirectory,
    sha256: options.sha256,
    name,
  });
}

/** Installs what a build has put into `directory`, under its own name unless given another. */
export async function addBuiltKernel(context: Context, directory: string, name?: string): Promise<Kernel> {
  const { readBuildOutput } = await import("../kernel/build-output.ts");
  const built = await readBuildOutput(directory);
  return (await context.kernels()).add({ ...built, name: name ?? built.name });
}

async function isDirectory(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found?.isDirectory() ?? false;
}

async function addFromThisMachine(context: Context, options: AddKernelOptions): Promise<Kernel> {
  const kernels = await context.kernels();
  const { name, signal } = options;
  try {
    return await installDistributionKernel(kernels, {
      name,
      signal,
      workDirectory: workDirectoryOf(context),
    });
  } catch (error) {
    if (!(error instanceof FirectlError) || error.code === "INTERRUPTED" || error.code === "NAME_IN_USE")
      throw error;
    const os = await import("node:os");
    try {
      return await addHostKernel(kernels, { release: os.release(), name, signal });
    } catch {
      throw error;
    }
  }
}

/** What the library tells of a kernel. */
export function summaryOf(kernel: Kernel, isDefault: boolean): KernelSummary {
  return {
    name: kernel.name,
    version: kernel.release ?? "unknown",
    path: path.join(kernel.directory, kernel.image),
    isDefault,
    sizeBytes: kernel.size,
    addedAt: kernel.addedAt,
    modules: kernel.modules.map((module) => module.name),
    ...(kernel.features === undefined ? {} : { features: kernel.features }),
  };
}

/**
 * Removes an installed kernel.
 * @throws FirectlError KERNEL_NOT_FOUND, WRONG_STATE while a VM that could be started again needs it.
 */
export async function removeKernel(context: Context, name: string): Promise<void> {
  const kernels = await context.kernels();
  const { directory } = await kernels.find(name);
  const records = await context.vms.read();
  const users = records.filter(({ kernelPath }) => path.dirname(kernelPath) === directory);
  if (users.length > 0) {
    const names = users.map((user) => user.name).join(", ");
    throw new FirectlError("WRONG_STATE", `cannot remove kernel ${name}: it is booted by ${names}`, {
      hint: `remove what boots it first: ${removalOf(users)}`,
    });
  }
  await kernels.remove(name);
}
