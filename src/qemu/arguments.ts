import { FirectlError } from "../core/errors.ts";
import type { Drive, MachineConfiguration, NetworkDevice, RateLimit } from "../vmm/vmm.ts";

/** The emulated machine: firectl's own always has an initramfs and a vsock device, a user's may have neither. */
export interface QemuMachine extends Omit<MachineConfiguration, "bootSource" | "vsock"> {
  readonly bootSource: Omit<MachineConfiguration["bootSource"], "initrdPath"> & {
    readonly initrdPath: string | undefined;
  };
  readonly vsock: MachineConfiguration["vsock"] | undefined;
  /** A device by which the guest can be made to give memory back while it runs. */
  readonly balloon?: boolean;
}

/** What QEMU is told beyond the machine itself. */
export interface QemuPlan {
  /** Node's name of the host's architecture; the guest's is the same. */
  readonly architecture: "x64" | "arm64";
  readonly machine: QemuMachine;
  /** The host's TSC rate; under emulation the guest's TSC is the host's. x64 only. */
  readonly tscKhz: number | undefined;
  /** vhost-device-vsock's socket. */
  readonly vhostSocketPath: string;
  readonly qmpSocketPath: string;
}

/**
 * The command line, without the program's name, of a QEMU that emulates in software: the serial console is
 * its stdout, a reboot of the guest is its end.
 * https://www.qemu.org/docs/master/system/i386/microvm.html
 * @throws FirectlError INVALID_ARGUMENT when the kernel arguments are too long.
 */
export function qemuArguments(plan: QemuPlan): string[] {
  const { machine } = plan;
  const memory = `${machine.memoryMib}M`;
  return [
    // Neither the distribution's nor the user's configuration files.
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    // vhost-user needs guest memory that another process can map.
    ...["-object", `memory-backend-memfd,id=memory,size=${memory},share=on`],
    ...["-machine", `${MACHINES[plan.architecture]},memory-backend=memory`],
    // With a thread for each of several processors, guests hang now and then before QEMU 8.1: one executes an
    // old translation of code that another has patched. One thread for all runs them in turn.
    ...["-accel", "tcg,thread=single", "-cpu", CPUS[plan.architecture]],
    ...["-m", memory, "-smp", String(machine.vcpuCount)],
    ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
    ...["-kernel", machine.bootSource.kernelImagePath],
    ...(machine.bootSource.initrdPath === undefined ? [] : ["-initrd", machine.bootSource.initrdPath]),
    ...["-append", kernelCommandLine(plan)],
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...inOrderOfDiscovery(plan.architecture, machine.drives).flatMap(driveArguments),
    ...(machine.balloon === true ? ["-device", "virtio-balloon-device,id=balloon,deflate-on-oom=on"] : []),
    ...(machine.network === undefined ? [] : networkArguments(machine.network)),
    ...["-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"],
    ...(machine.vsock === undefined
      ? []
      : [
          ...["-chardev", `socket,id=vsock,path=${escapeValue(plan.vhostSocketPath)}`],
          ...["-device", "vhost-user-vsock-device,chardev=vsock"],
        ]),
    ...["-chardev", `socket,id=qmp,path=${escapeValue(plan.qmpSocketPath)},server=on,wait=off`],
    ...["-mon", "chardev=qmp,mode=control"],
  ];
}

// Each byte of a fast string instruction is emulated by itself, and a kernel that is told that they are fast
// copies with nothing else.
const CPUS = { x64: "max,-erms,-fsrm", arm64: "max" } as const;

const MACHINES = {
  // ACPI tells the guest of its virtio-mmio devices: distribution kernels do not take them from the command
  // line. Interrupt controller and timer of the PC age only cost time.
  x64: "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off,pit=off,pic=off,rtc=on,isa-serial=on",
  arm64: "virt,gic-version=3",
} as const;

/** Firecracker allows 2048 bytes on x86; a guest is to boot on either. */
const MAX_COMMAND_LINE_BYTES = 2048;

/**
 * The kernel's arguments: those that the emulated machine needs, then the configuration's own.
 * @throws FirectlError INVALID_ARGUMENT when it is longer than a kernel takes.
 */
export function kernelCommandLine(plan: QemuPlan): string {
  const words = [
    ...(plan.architecture === "x64"
      ? [
          "console=ttyS0",
          "8250.nr_uarts=1",
          // There is no keyboard controller to reset the machine by: a triple fault ends QEMU.
          "reboot=t",
          // Calibration against emulated timers sometimes fails and then hangs the boot; and on a busy host the
          // comparison with them makes the kernel drop a clock that is the host's own.
          ...(plan.tscKhz === undefined ? [] : [`tsc_early_khz=${plan.tscKhz}`, "tsc=reliable"]),
          "random.trust_cpu=on",
        ]
      : ["console=ttyAMA0"]),
    "panic=-1",
    "quiet",
    // The crypto self-tests of distribution kernels are a fifth of an emulated boot.
    "cryptomgr.notests",
    ...plan.machine.bootSource.kernelArguments,
  ];
  const line = words.join(" ");
  if (Buffer.byteLength(line) >= MAX_COMMAND_LINE_BYTES) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the kernel arguments are ${Buffer.byteLength(line)} bytes long; a kernel takes ${MAX_COMMAND_LINE_BYTES - 1}`,
    );
  }
  return line;
}

/** A guest counts its disks as it finds them: on the virt machine from the last to the first. */
function inOrderOfDiscovery(
  architecture: QemuPlan["architecture"],
  drives: readonly Drive[],
): readonly Drive[] {
  return architecture === "arm64" ? drives.toReversed() : drives;
}

function driveArguments(drive: Drive): string[] {
  const options = [
    `id=${drive.id}`,
    `file=${escapeValue(drive.path)}`,
    "format=raw",
    "if=none",
    `cache=${drive.cache}`,
    `read-only=${drive.readOnly ? "on" : "off"}`,
    ...throttling(drive.limit),
  ];
  return ["-drive", options.join(","), "-device", `virtio-blk-device,drive=${drive.id}`];
}

/** The descriptor on which QEMU finds the guest's frames. */
export const NETWORK_FD = 9;

function networkArguments({ macAddress }: NetworkDevice): string[] {
  return [
    ...["-netdev", `socket,id=eth0,fd=${NETWORK_FD}`],
    // With a status the link comes up only when the guest's kernel finds the time to look at it, and programs that
    // list the interfaces that run miss it until then.
    ...["-device", `virtio-net-device,netdev=eth0,mac=${macAddress},status=off`],
  ];
}

/** https://gitlab.com/qemu-project/qemu/-/blob/master/docs/throttle.txt */
function throttling(limit: RateLimit | undefined): string[] {
  const { bytesPerSecond, operationsPerSecond } = limit ?? {};
  return [
    ...(bytesPerSecond === undefined ? [] : [`throttling.bps-total=${bytesPerSecond}`]),
    ...(operationsPerSecond === undefined ? [] : [`throttling.iops-total=${operationsPerSecond}`]),
  ];
}

/** QEMU's option lists are parted by commas; a comma of one's own is doubled. */
function escapeValue(value: string): string {
  return value.replaceAll(",", ",,");
}

/**
 * The rate of this host's TSC in kHz, from the text of /proc/cpuinfo; undefined when it does not tell.
 * The kernel derives bogomips from the TSC (loops per jiffy = TSC ticks per jiffy, shown doubled and in
 * millions), whereas "cpu MHz" follows the frequency of the moment.
 * https://elixir.bootlin.com/linux/v6.1/source/arch/x86/kernel/tsc.c#L1453
 */
export function tscKhzOfCpuinfo(cpuinfo: string): number | undefined {
  if (!/^flags\s*:.*\bconstant_tsc\b/m.test(cpuinfo)) return undefined;
  const match = /^bogomips\s*:\s*(\d+)\.(\d\d)$/m.exec(cpuinfo);
  if (match === null) return undefined;
  const khz = (Number(match[1]) * 100 + Number(match[2])) * 5;
  return khz >= 100_000 && khz <= 20_000_000 ? khz : undefined;
}
