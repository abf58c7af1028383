import { FirectlError } from "../core/errors.ts";
import type { RawConfiguration } from "../vmm/raw-configuration.ts";
import type { QemuMachine } from "./arguments.ts";

/** Sections with no counterpart in the emulated machine. */
const UNTRANSLATABLE = [
  "balloon",
  "cpu-config",
  "logger",
  "memory-hotplug",
  "metrics",
  "mmds-config",
  "serial",
] as const;

/**
 * The machine that a raw Firecracker configuration describes, for QEMU. The entropy device is always there.
 * @throws FirectlError UNSUPPORTED naming the section that QEMU cannot be given.
 */
export function translateRaw(raw: RawConfiguration): QemuMachine {
  for (const section of UNTRANSLATABLE) {
    if (raw[section] !== undefined && raw[section] !== null) throw unsupported(section);
  }
  if (raw["network-interfaces"].length > 0) throw unsupported("network-interfaces");
  if (raw.pmem.length > 0) throw unsupported("pmem");
  const bootSource = raw["boot-source"];
  // Firecracker puts the root device first and names it to the kernel.
  const drives = [...raw.drives].sort((a, b) => Number(b.is_root_device) - Number(a.is_root_device));
  const root = drives.find(({ is_root_device }) => is_root_device);
  return {
    vcpuCount: raw["machine-config"].vcpu_count,
    memoryMib: raw["machine-config"].mem_size_mib,
    bootSource: {
      kernelImagePath: bootSource.kernel_image_path,
      initrdPath: bootSource.initrd_path ?? undefined,
      kernelArguments: [
        ...(root === undefined ? [] : ["root=/dev/vda", root.is_read_only === true ? "ro" : "rw"]),
        ...(bootSource.boot_args ?? "").split(/\s+/).filter((word) => word !== "" && !isReset(word)),
      ],
    },
    drives: drives.map((drive, index) => {
      if (typeof drive.path_on_host !== "string") throw unsupported(`drives.${index}.socket`);
      return {
        id: drive.drive_id,
        path: drive.path_on_host,
        readOnly: drive.is_read_only === true,
        cache: drive.cache_type === "Writeback" ? "writeback" : "unsafe",
      };
    }),
    vsock: raw.vsock ? { guestCid: raw.vsock.guest_cid, socketPath: raw.vsock.uds_path } : undefined,
  };
}

/** How to reset is the emulated machine's own affair; Firecracker's way does nothing there. */
function isReset(word: string): boolean {
  return word.startsWith("reboot=");
}

function unsupported(section: string): FirectlError {
  return new FirectlError(
    "UNSUPPORTED",
    `the configuration's section "${section}" works in Firecracker only`,
    {
      hint: "remove the section, or run on a host where Firecracker can be used",
    },
  );
}
