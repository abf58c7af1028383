import { FirectlError } from "../core/errors.ts";
import type { Drive, MachineConfiguration, NetworkDevice, RateLimit } from "../vmm/vmm.ts";
import type { ConfigurationCall, RateLimiter, SerialDevice } from "./api/types.ts";
import { type FirecrackerVersion, reclaimsFreePages } from "./version.ts";

/** The kernel's command line on x86, closing zero included. */
const MAX_COMMAND_LINE_BYTES = 2048;

const BOOT_ARGUMENTS = {
  x64: [
    // The console costs an exit a byte: quiet, it carries errors and a panic's words and nothing else.
    ...["console=ttyS0", "8250.nr_uarts=1", "quiet"],
    // A reset by the keyboard controller is the one end of the guest that Firecracker sees.
    ...["reboot=k", "panic=-1"],
    // Probing a keyboard controller that is not all there takes most of a second, and nobody has a keyboard:
    // what asks a guest of ours to end is its agent.
    ...["i8042.noaux", "i8042.nomux", "i8042.nokbd"],
    // The crypto self-tests of distribution kernels are a fifth of the boot.
    ...["cryptomgr.notests", "random.trust_cpu=on"],
  ],
  arm64: ["console=ttyS0", "quiet", "reboot=k", "panic=-1", "cryptomgr.notests", "keep_bootcon"],
} as const;

/**
 * The PUTs that make Firecracker's machine out of `machine`, in the order in which they are sent: the guest
 * names its disks in the order of theirs.
 * @throws FirectlError INVALID_ARGUMENT when the kernel arguments are too long.
 */
export function configurationCalls(
  machine: MachineConfiguration,
  {
    architecture,
    version,
  }: { readonly architecture: keyof typeof BOOT_ARGUMENTS; readonly version: FirecrackerVersion },
): ConfigurationCall[] {
  const { bootSource, vsock } = machine;
  return [
    {
      path: "/machine-config",
      body: { vcpu_count: machine.vcpuCount, mem_size_mib: machine.memoryMib },
    },
    {
      path: "/boot-source",
      body: {
        kernel_image_path: bootSource.kernelImagePath,
        initrd_path: bootSource.initrdPath,
        boot_args: commandLine([...BOOT_ARGUMENTS[architecture], ...bootSource.kernelArguments]),
      },
    },
    ...machine.drives.map(driveCall),
    ...(machine.network === undefined ? [] : [networkCall(machine.network)]),
    { path: "/vsock", body: { guest_cid: vsock.guestCid, uds_path: vsock.socketPath } },
    { path: "/entropy", body: {} },
    balloonCall(version),
  ];
}

/**
 * An empty balloon takes nothing from the guest; filled, it has what the guest is to give back. What the guest's
 * kernel has freed it tells this device, two seconds later and in blocks of 2 MiB, and the host gets it back.
 */
function balloonCall(version: FirecrackerVersion): ConfigurationCall {
  const reporting = reclaimsFreePages(version) ? { free_page_reporting: true } : {};
  return { path: "/balloon", body: { amount_mib: 0, deflate_on_oom: true, ...reporting } };
}

/** The initramfs mounts the root: "root device" would only make Firecracker add root= to the arguments. */
function driveCall(drive: Drive): ConfigurationCall {
  if (drive.device === "pmem") {
    return {
      path: `/pmem/${drive.id}`,
      body: { id: drive.id, path_on_host: drive.path, root_device: false, read_only: drive.readOnly },
    };
  }
  return {
    path: `/drives/${drive.id}`,
    body: {
      drive_id: drive.id,
      path_on_host: drive.path,
      is_root_device: false,
      is_read_only: drive.readOnly,
      cache_type: drive.cache === "writeback" ? "Writeback" : "Unsafe",
      ...(drive.limit === undefined ? {} : { rate_limiter: rateLimiter(drive.limit) }),
    },
  };
}

/** Firecracker opens the tap device by its name, in a network namespace that is the VM's alone. */
export const TAP_NAME = "tap0";
export const INTERFACE_ID = "eth0";

function networkCall({ macAddress, limit }: NetworkDevice): ConfigurationCall {
  return {
    path: `/network-interfaces/${INTERFACE_ID}`,
    body: {
      iface_id: INTERFACE_ID,
      guest_mac: macAddress,
      host_dev_name: TAP_NAME,
      ...(limit === undefined
        ? {}
        : { rx_rate_limiter: rateLimiter(limit), tx_rate_limiter: rateLimiter(limit) }),
    },
  };
}

const SECOND_MS = 1000;

/** A limit as token buckets that fill in a second; a bucket of no size limits nothing. */
export function rateLimiter(limit: RateLimit): RateLimiter {
  return {
    bandwidth: { size: limit.bytesPerSecond ?? 0, refill_time: SECOND_MS },
    ops: { size: limit.operationsPerSecond ?? 0, refill_time: SECOND_MS },
  };
}

/** A hostile guest can write to its serial port without end; after this much the rest is dropped. */
export const CONSOLE_LIMIT_BYTES: number = 1024 * 1024;

/** A hundred years: the bucket that bounds the console is filled once. */
const NEVER_MS = 100 * 365 * 24 * 3600 * 1000;

/** The serial console as a file that grows to {@link CONSOLE_LIMIT_BYTES} and no further. */
export function boundedConsole(consolePath: string): SerialDevice {
  return {
    serial_out_path: consolePath,
    rate_limiter: { size: CONSOLE_LIMIT_BYTES, refill_time: NEVER_MS },
  };
}

function commandLine(words: readonly string[]): string {
  const line = words.join(" ");
  const length = Buffer.byteLength(line);
  if (length >= MAX_COMMAND_LINE_BYTES) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the kernel arguments are ${length} bytes long; a kernel takes ${MAX_COMMAND_LINE_BYTES - 1}`,
    );
  }
  return line;
}
