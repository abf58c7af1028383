import { describe, expect, test } from "vitest";
import type { MachineConfiguration } from "../vmm/vmm.ts";
import { kernelCommandLine, type QemuPlan, qemuArguments, tscKhzOfCpuinfo } from "./arguments.ts";

const MACHINE: MachineConfiguration = {
  vcpuCount: 2,
  memoryMib: 256,
  bootSource: {
    kernelImagePath: "/k/vmlinuz",
    initrdPath: "/i.cpio",
    kernelArguments: ["firectl.control=vdc"],
  },
  drives: [
    { id: "rootfs", path: "/base/a.ext4", readOnly: true, cache: "unsafe" },
    { id: "upper", path: "/vms/with,comma.ext4", readOnly: false, cache: "writeback" },
  ],
  vsock: { guestCid: 3, socketPath: "/run/vm/vm.vsock" },
};

function plan(more: Partial<QemuPlan> = {}): QemuPlan {
  return {
    architecture: "x64",
    machine: MACHINE,
    tscKhz: 2_445_400,
    vhostSocketPath: "/run/vm/vhost.sock",
    qmpSocketPath: "/run/vm/qmp.sock",
    ...more,
  };
}

describe("qemuArguments", () => {
  test("x64 is an emulated microvm with the configuration's disks in order", () => {
    expect(qemuArguments(plan())).toMatchInlineSnapshot(`
      [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-object",
        "memory-backend-memfd,id=memory,size=256M,share=on",
        "-machine",
        "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off,pit=off,pic=off,rtc=on,isa-serial=on,memory-backend=memory",
        "-accel",
        "tcg,thread=single",
        "-cpu",
        "max,-erms,-fsrm",
        "-m",
        "256M",
        "-smp",
        "2",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
        "-kernel",
        "/k/vmlinuz",
        "-initrd",
        "/i.cpio",
        "-append",
        "console=ttyS0 8250.nr_uarts=1 reboot=t tsc_early_khz=2445400 tsc=reliable random.trust_cpu=on panic=-1 quiet cryptomgr.notests firectl.control=vdc",
        "-global",
        "virtio-mmio.force-legacy=false",
        "-drive",
        "id=rootfs,file=/base/a.ext4,format=raw,if=none,cache=unsafe,read-only=on",
        "-device",
        "virtio-blk-device,drive=rootfs",
        "-drive",
        "id=upper,file=/vms/with,,comma.ext4,format=raw,if=none,cache=writeback,read-only=off",
        "-device",
        "virtio-blk-device,drive=upper",
        "-object",
        "rng-builtin,id=rng",
        "-device",
        "virtio-rng-device,rng=rng",
        "-chardev",
        "socket,id=vsock,path=/run/vm/vhost.sock",
        "-device",
        "vhost-user-vsock-device,chardev=vsock",
        "-chardev",
        "socket,id=qmp,path=/run/vm/qmp.sock,server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
      ]
    `);
  });

  test("arm64 is virt, without what only a PC has", () => {
    const line = qemuArguments(plan({ architecture: "arm64", tscKhz: undefined })).join(" ");
    expect(line).toContain("-machine virt,gic-version=3,memory-backend=memory");
    expect(line).toContain("console=ttyAMA0 panic=-1 quiet cryptomgr.notests firectl.control=vdc");
    expect(line).not.toMatch(/tsc|8250|microvm/);
  });

  test("an arm64 guest, which finds its disks from the last to the first, counts them as one of x64", () => {
    const drives = qemuArguments(plan({ architecture: "arm64", tscKhz: undefined })).flatMap(
      (word) => /^virtio-blk-device,drive=(.*)$/.exec(word)?.[1] ?? [],
    );
    expect(drives).toEqual(["upper", "rootfs"]);
  });
});

test("limits and a balloon are options and a device of their own", () => {
  const [disk] = MACHINE.drives;
  if (disk === undefined) throw new Error("there is a disk");
  const limit = { bytesPerSecond: 1000, operationsPerSecond: 10 };
  const machine = { ...MACHINE, drives: [{ ...disk, limit }], balloon: true };
  const line = qemuArguments(plan({ machine })).join(" ");
  expect(line).toContain("read-only=on,throttling.bps-total=1000,throttling.iops-total=10 ");
  expect(line).toContain("-device virtio-balloon-device,id=balloon,deflate-on-oom=on");
});

describe("kernelCommandLine", () => {
  test("leaves the TSC to the kernel's calibration when its rate is not known", () => {
    expect(kernelCommandLine(plan({ tscKhz: undefined }))).not.toContain("tsc");
  });

  test("takes 2047 bytes and not one more", () => {
    const spare = 2047 - Buffer.byteLength(kernelCommandLine(plan())) - 1;
    const withWord = (length: number): QemuPlan => {
      const kernelArguments = [...MACHINE.bootSource.kernelArguments, "x".repeat(length)];
      return plan({ machine: { ...MACHINE, bootSource: { ...MACHINE.bootSource, kernelArguments } } });
    };
    expect(Buffer.byteLength(kernelCommandLine(withWord(spare)))).toBe(2047);
    expect(() => kernelCommandLine(withWord(spare + 1))).toThrow(
      "the kernel arguments are 2048 bytes long; a kernel takes 2047",
    );
  });
});

test.each([
  ["this lab's EPYC", "flags\t\t: fpu tsc constant_tsc nopl\nbogomips\t: 4890.80\n", 2_445_400],
  ["a Xeon", "flags\t\t: constant_tsc\nbogomips\t: 4199.99\n", 2_099_995],
  ["a TSC that follows the clock", "flags\t\t: fpu tsc nopl\nbogomips\t: 4890.80\n", undefined],
  ["no bogomips", "flags\t\t: constant_tsc\ncpu MHz\t\t: 2445.404\n", undefined],
  ["arm", "BogoMIPS\t: 50.00\nFeatures\t: fp asimd\n", undefined],
  ["an absurd rate", "flags\t\t: constant_tsc\nbogomips\t: 1.00\n", undefined],
  ["nothing", "", undefined],
])("tscKhzOfCpuinfo: %s", (_name, cpuinfo, expected) => {
  expect(tscKhzOfCpuinfo(cpuinfo)).toBe(expected);
});

test("an interface is a socket that is open already", () => {
  const network = { macAddress: "02:42:0a:00:02:0f" };
  const line = qemuArguments(plan({ machine: { ...MACHINE, network } })).join(" ");
  expect(line).toContain(
    "-netdev socket,id=eth0,fd=9 -device virtio-net-device,netdev=eth0,mac=02:42:0a:00:02:0f,status=off",
  );
  expect(qemuArguments(plan()).join(" ")).not.toContain("-netdev");
});
