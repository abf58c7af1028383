import { FirectlError } from "../core/errors.ts";

/**
 * - `bzImage`: x86, compressed; https://docs.kernel.org/arch/x86/boot.html
 * - `elf`: uncompressed vmlinux.
 * - `image`: arm64, uncompressed; https://docs.kernel.org/arch/arm64/booting.html
 */
export type KernelFormat = "bzImage" | "elf" | "image";

/** What a kernel's file says about itself. */
export interface KernelIdentity {
  readonly format: KernelFormat;
  readonly architecture: "x64" | "arm64";
  /** `uname -r` of it, when it can be told. */
  readonly release: string | undefined;
}

const ELF_MAGIC = 0x464c457f;
const ELF_MACHINE_OFFSET = 18;
const ELF_MACHINES: Readonly<Record<number, "x64" | "arm64">> = { 62: "x64", 183: "arm64" };
const BOOT_FLAG_OFFSET = 0x1fe;
const HEADER_MAGIC_OFFSET = 0x202;
const HEADER_MAGIC = 0x53726448;
/** Of the setup header's kernel_version, minus 0x200. */
const VERSION_POINTER_OFFSET = 0x20e;
const ARM64_MAGIC_OFFSET = 56;
const ARM64_MAGIC = 0x644d5241;
const SMALLEST_KERNEL_BYTES = 0x400;

/** Recognises a kernel by its magic numbers; undefined when the bytes are none. */
function identifyKernel(bytes: Buffer): KernelIdentity | undefined {
  if (bytes.length < SMALLEST_KERNEL_BYTES) return undefined;
  if (bytes.readUInt32LE(0) === ELF_MAGIC) {
    const architecture = ELF_MACHINES[bytes.readUInt16LE(ELF_MACHINE_OFFSET)];
    const release = releaseInBanner(bytes);
    // An ELF file that does not hold the kernel's banner is some other program.
    if (architecture === undefined || release === undefined) return undefined;
    return { format: "elf", architecture, release };
  }
  if (
    bytes.readUInt16LE(BOOT_FLAG_OFFSET) === 0xaa55 &&
    bytes.readUInt32LE(HEADER_MAGIC_OFFSET) === HEADER_MAGIC
  ) {
    return { format: "bzImage", architecture: "x64", release: releaseInHeader(bytes) };
  }
  if (bytes.readUInt32LE(ARM64_MAGIC_OFFSET) === ARM64_MAGIC) {
    return { format: "image", architecture: "arm64", release: releaseInBanner(bytes) };
  }
  return undefined;
}

/**
 * The identity of a kernel that a guest of this host can run.
 * @throws FirectlError INVALID_ARGUMENT when `file` is no kernel, or one of another architecture.
 */
export function requireKernel(bytes: Buffer, file: string): KernelIdentity {
  const identity = identifyKernel(bytes);
  if (identity === undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `${file} is not a Linux kernel`, {
      hint: "give a bzImage (/boot/vmlinuz-…), an uncompressed vmlinux, or an arm64 Image",
    });
  }
  if (identity.architecture !== process.arch) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `${file} is a kernel for ${identity.architecture}; this host runs ${process.arch}`,
    );
  }
  return identity;
}

function releaseInHeader(bytes: Buffer): string | undefined {
  const pointer = bytes.readUInt16LE(VERSION_POINTER_OFFSET);
  if (pointer === 0) return undefined;
  return releaseOf(bytes.toString("latin1", pointer + 0x200, pointer + 0x200 + 128));
}

function releaseInBanner(bytes: Buffer): string | undefined {
  const banner = "Linux version ";
  const at = bytes.indexOf(banner, 0, "latin1");
  return at < 0
    ? undefined
    : releaseOf(bytes.toString("latin1", at + banner.length, at + banner.length + 128));
}

function releaseOf(text: string): string | undefined {
  return /^\d+\.\d+[\w.+~-]*/.exec(text)?.[0];
}
