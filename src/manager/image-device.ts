import { statSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import { ioError } from "../host/files.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { PMEM_MODULES } from "../kernel/modules.ts";
import type { DriveDevice, Vmm } from "../vmm/vmm.ts";
import type { ImageDevice, StorageMode } from "./api.ts";

/** The kernel keeps 64 bytes about each page of 4096, of persistent memory too. */
const BYTES_PER_DESCRIBING_BYTE = 4096 / 64;
/** A guest gives no more of its own memory than this part to describing the image's. */
const MAX_DESCRIBING_PART = 8;

export interface ImageDeviceOptions {
  readonly requested: ImageDevice | undefined;
  readonly storage: StorageMode;
  readonly vmm: Pick<Vmm, "pmemLack">;
  readonly kernel: Pick<Kernel, "name" | "modules" | "builtin">;
  readonly basePath: string;
  readonly memoryMib: number;
}

/**
 * How a VM's image is attached: as memory that all VMs of the image share, where everything has a part in
 * that can, or as a disk.
 * @throws FirectlError UNSUPPORTED naming the part that lacks it, when `pmem` was asked for and cannot be.
 */
export function imageDeviceFor(options: ImageDeviceOptions): DriveDevice {
  if (options.requested === "block") return "block";
  const lack = pmemLackOf(options);
  if (lack === undefined) return "pmem";
  if (options.requested !== "pmem") return "block";
  throw new FirectlError("UNSUPPORTED", `--image-device pmem: ${lack.what}`, { hint: lack.hint });
}

interface Lack {
  readonly what: string;
  readonly hint: string;
}

const HINT = "use --image-device block, or auto, which takes what there is";

function pmemLackOf(options: ImageDeviceOptions): Lack | undefined {
  const { storage, vmm, kernel } = options;
  if (storage === "copy") return { what: "--storage copy leaves nothing of the image to share", hint: HINT };
  if (vmm.pmemLack !== undefined) return { what: vmm.pmemLack, hint: HINT };
  const missing = missingModules(kernel);
  if (missing.length > 0) {
    const hint =
      kernel.builtin === undefined
        ? "an earlier firectl installed it and did not look; install it again: firectl kernel add --help"
        : HINT;
    return { what: `the kernel ${kernel.name} lacks ${missing.join(" and ")}`, hint };
  }
  return sizeLackOf(options);
}

function sizeLackOf({ basePath, memoryMib }: ImageDeviceOptions): Lack | undefined {
  const bytes = sizeOf(basePath);
  const most = (memoryMib * MIB * BYTES_PER_DESCRIBING_BYTE) / MAX_DESCRIBING_PART;
  if (bytes <= most) return undefined;
  const neededMib = Math.ceil((bytes * MAX_DESCRIBING_PART) / BYTES_PER_DESCRIBING_BYTE / MIB);
  return {
    what: `the image of ${Math.ceil(bytes / MIB)} MiB needs a guest of at least ${neededMib} MiB, not ${memoryMib} MiB`,
    hint: `give it --memory ${neededMib}m, or use --image-device block`,
  };
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch (error) {
    throw ioError(`cannot look at ${file}`, error);
  }
}

function missingModules(kernel: ImageDeviceOptions["kernel"]): string[] {
  const has = new Set([...kernel.modules.map(({ name }) => name), ...(kernel.builtin ?? [])]);
  return PMEM_MODULES.filter((name) => !has.has(name));
}
