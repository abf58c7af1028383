import { rm } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { tryFileLock, withFileLock } from "../host/file-lock.ts";
import { exists, makePrivateDirectory } from "../host/files.ts";
import { packageRoot } from "../host/package-root.ts";
import {
  type BuildPlan,
  type BuildScriptOptions,
  buildKernelInto,
  planBuild,
} from "../kernel/build-kernel.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { BuildKernelOptions, KernelSummary } from "./api.ts";
import type { Context } from "./context.ts";
import { dataLock } from "./data-locks.ts";
import { addBuiltKernel, summaryOf } from "./kernels.ts";

/** Another build goes on for minutes: that is to be told, not waited for. */
const LOCK_TIMEOUT_MS = 1000;

/**
 * Builds firectl's own kernel, installs it and makes it the default; one that is installed already is not
 * built again. A build that fails or is interrupted goes on where it was, the next time.
 * @throws FirectlError NAME_IN_USE when another kernel has its name, LOCK_TIMEOUT while another build goes on,
 *   TOOL_MISSING, PROCESS_FAILED.
 */
export async function buildKernel(context: Context, options: BuildKernelOptions): Promise<KernelSummary> {
  const kernel = await withFileLock(
    await lockOf(context),
    { timeoutMs: LOCK_TIMEOUT_MS, signal: options.signal },
    () => buildAlone(context, options),
  );
  const kernels = await context.kernels();
  if (options.makeDefault ?? true) await kernels.setDefault(kernel.name);
  return summaryOf(kernel, (await kernels.default())?.name === kernel.name);
}

async function buildAlone(context: Context, options: BuildKernelOptions): Promise<Kernel> {
  const script: BuildScriptOptions = {
    ...options,
    script: path.join(packageRoot(), "kernel/build.sh"),
    source:
      isUrl(options.source) || options.source === undefined ? options.source : path.resolve(options.source),
  };
  const report = (text: string): void => options.onProgress?.({ kind: "stage", text });
  report("planning the kernel");
  const plan = await planBuild(script);
  const name = options.name ?? plan.name;
  const there = await installed(context, name, plan);
  if (there !== undefined) {
    options.onProgress?.({
      kind: "notice",
      message: `kernel ${name} is installed already: nothing to build`,
    });
    return there;
  }
  const directory = directoryOf(context);
  const output = path.join(directory, "output");
  await makePrivateDirectory(directory);
  await buildKernelInto(output, {
    ...script,
    work: path.join(directory, "work"),
    jobs: options.jobs,
    onStage: report,
  });
  const kernel = await addBuiltKernel(context, output, name);
  await rm(directory, { recursive: true, force: true });
  return kernel;
}

/** The kernel `name`, if it is what would be built. Asked first: to learn it after minutes would be late. */
async function installed(context: Context, name: string, plan: BuildPlan): Promise<Kernel | undefined> {
  const kernels = await context.kernels();
  const found = (await kernels.list()).find((kernel) => kernel.name === name);
  if (found === undefined || found.buildKey === plan.key) return found;
  throw new FirectlError(
    "NAME_IN_USE",
    `there is a kernel ${name} already, of another configuration or source`,
    {
      hint: `choose a name with --name, or remove it first: firectl kernel rm ${name}`,
    },
  );
}

/** Removes what builds that did not come to their end have left; does nothing while one goes on. */
export async function sweepKernelBuild(context: Context): Promise<void> {
  const directory = directoryOf(context);
  if (!(await exists(directory))) return;
  await tryFileLock(await lockOf(context), () => rm(directory, { recursive: true, force: true }));
}

function isUrl(source: string | undefined): boolean {
  return source !== undefined && /^https:\/\//.test(source);
}

function lockOf(context: Context): Promise<string> {
  return dataLock(context, "kernel-build");
}

function directoryOf(context: Context): string {
  return path.join(context.directories.data, "kernel-build");
}
