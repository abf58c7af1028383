import path from "node:path";
import { mark } from "../core/trace.ts";
import { buildInitramfs } from "../kernel/initramfs.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Vmm } from "../vmm/vmm.ts";
import type { ProgressEvent, VmmChoice } from "./api.ts";
import type { Context } from "./context.ts";
import { selectVmm } from "./select-vmm.ts";

/** What a VM runs on: a VMM, and the kernel and initramfs in the form that this VMM loads. */
export interface Platform {
  readonly vmm: Vmm;
  readonly kernel: Kernel;
  readonly kernelPath: string;
  readonly initrdPath: string;
}

export interface PlatformOptions {
  readonly vmm?: VmmChoice | undefined;
  /** Name of an installed kernel, or a path with a slash in it; the default one when absent. */
  readonly kernel?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}

/**
 * The VMM, kernel and initramfs for a VM. With `auto`, Firecracker where a guest really runs on KVM, else
 * QEMU, with one notice that says why. A host without any kernel gets the distribution's.
 * @throws FirectlError TOOL_MISSING, KVM_UNUSABLE, PERMISSION_DENIED, KERNEL_NOT_FOUND.
 */
export async function choosePlatform(context: Context, options: PlatformOptions): Promise<Platform> {
  const { kernel, initrdPath } = await bootPartsFor(context, options);
  mark("kernel, initramfs");
  const vmm = await chooseVmm(context, { ...options, parts: async () => ({ kernel, initrdPath }) });
  const kernelPath = await (await context.kernels()).imagePath(kernel, {
    compressed: vmm.loadsCompressedKernel,
  });
  mark("platform");
  return { vmm, kernel, initrdPath, kernelPath };
}

/** The initramfs for a guest that needs `modules` besides. */
export async function initramfsWith(
  context: Context,
  kernel: Kernel,
  modules: readonly string[],
): Promise<string> {
  return buildInitramfs({
    kernel,
    modules,
    agentPath: context.agentPath,
    cacheDir: path.join(context.directories.data, "initramfs"),
  });
}

/** The VMM alone, for a machine that brings its own kernel; ours is booted only where KVM must be tried. */
export async function chooseVmmAlone(context: Context, options: PlatformOptions): Promise<Vmm> {
  return chooseVmm(context, { ...options, parts: () => bootPartsFor(context, options) });
}

interface BootParts {
  readonly kernel: Kernel;
  readonly initrdPath: string;
}

async function bootPartsFor(context: Context, options: PlatformOptions): Promise<BootParts> {
  const kernel = await findKernel(context, options);
  return { kernel, initrdPath: await initramfsWith(context, kernel, []) };
}

async function chooseVmm(
  context: Context,
  options: PlatformOptions & { parts: () => Promise<BootParts> },
): Promise<Vmm> {
  const { vmm, notice } = await selectVmm({
    requested: options.vmm ?? "auto",
    env: context.env,
    settings: context.settings,
    directories: context.directories,
    guest: async (form) => {
      const { kernel, initrdPath } = await options.parts();
      return { kernelImagePath: await (await context.kernels()).imagePath(kernel, form), initrdPath };
    },
    signal: options.signal,
  });
  if (notice !== undefined) options.onProgress?.({ kind: "notice", message: notice });
  return vmm;
}

async function findKernel(context: Context, options: PlatformOptions): Promise<Kernel> {
  const kernels = await context.kernels();
  if (options.kernel !== undefined) return kernels.find(options.kernel);
  const standard = await kernels.default();
  if (standard !== undefined) return standard;
  options.onProgress?.({ kind: "notice", message: "no guest kernel yet: installing the distribution's" });
  const { ensureDefaultKernel } = await import("./kernels.ts");
  return ensureDefaultKernel(context, options.signal);
}
