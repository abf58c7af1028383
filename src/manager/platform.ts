import path from "node:path";
import { mark } from "../core/trace.ts";
import { buildInitramfs } from "../kernel/initramfs.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Vmm } from "../vmm/vmm.ts";
import type { ProgressEvent, VmmChoice } from "./api.ts";
import type { Context } from "./context.ts";
import { selectVmm } from "./select-vmm.ts";

/** What a VM runs on: a VMM, and a kernel in the form that this VMM loads. */
export interface Platform {
  readonly vmm: Vmm;
  readonly kernel: Kernel;
  readonly kernelPath: string;
}

export interface PlatformOptions {
  readonly vmm?: VmmChoice | undefined;
  /** Name of an installed kernel, or a path with a slash in it; the default one when absent. */
  readonly kernel?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}

/**
 * The VMM and kernel for a VM. With `auto`, Firecracker where a guest really runs on KVM, else
 * QEMU, with one notice that says why. A host without any kernel gets the distribution's.
 * @throws FirectlError TOOL_MISSING, KVM_UNUSABLE, PERMISSION_DENIED, KERNEL_NOT_FOUND.
 */
export async function choosePlatform(context: Context, options: PlatformOptions): Promise<Platform> {
  const kernel = await findKernel(context, options);
  mark("kernel");
  const vmm = await chooseVmm(context, { ...options, obtainKernel: async () => kernel });
  const kernelPath = await (await context.kernels()).imagePath(kernel, {
    compressed: vmm.loadsCompressedKernel,
  });
  mark("platform");
  return { vmm, kernel, kernelPath };
}

/** The initramfs for a guest that needs `modules` besides those that every guest needs. */
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
  return chooseVmm(context, { ...options, obtainKernel: () => findKernel(context, options) });
}

async function chooseVmm(
  context: Context,
  options: PlatformOptions & { obtainKernel: () => Promise<Kernel> },
): Promise<Vmm> {
  const { vmm, notice } = await selectVmm({
    requested: options.vmm ?? "auto",
    env: context.env,
    settings: context.settings,
    directories: context.directories,
    guest: async (form) => {
      const kernel = await options.obtainKernel();
      return {
        kernelImagePath: await (await context.kernels()).imagePath(kernel, form),
        initrdPath: await initramfsWith(context, kernel, []),
      };
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
