import { extractVmlinux } from "./extract-vmlinux.ts";
import type { KernelFormat } from "./format.ts";

/**
 * Which of `drivers`, named as modules, are built into a kernel that comes without a modules directory: each
 * driver of Linux carries its name as a string. Undefined when the kernel cannot be unpacked here.
 */
export async function builtinDrivers(
  image: { readonly bytes: Buffer; readonly format: KernelFormat; readonly file: string },
  drivers: readonly string[],
): Promise<string[] | undefined> {
  const code = await codeOf(image);
  return code && drivers.filter((name) => code.includes(`\0${name}\0`, 0, "latin1"));
}

async function codeOf(image: {
  readonly bytes: Buffer;
  readonly format: KernelFormat;
  readonly file: string;
}): Promise<Buffer | undefined> {
  if (image.format !== "bzImage") return image.bytes;
  try {
    return await extractVmlinux(image.bytes, image.file);
  } catch {
    // Its decompressor is not installed: not knowing costs a little memory, not the kernel.
    return undefined;
  }
}
