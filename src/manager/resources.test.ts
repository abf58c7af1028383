import { describe, expect, test } from "vitest";
import { MIB } from "../core/units.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { limitedDrives, sizedMachine } from "./machine-size.ts";
import { resourceSpec, rlimitsSpec } from "./resource-spec.ts";
import { type ResourceOptions, resourcesOf } from "./resources.ts";

const SIZE = { cpus: 1, memoryMib: 512 };

describe("resourcesOf", () => {
  test("records nothing when nothing is limited", () => {
    expect(resourcesOf({}, SIZE)).toBeUndefined();
    expect(
      resourcesOf({ pidsLimit: -1, diskBytesPerSecond: 0, memorySwapBytes: 512 * MIB }, SIZE),
    ).toBeUndefined();
  });

  test.each<[number, number | undefined]>([
    [1, undefined],
    [2, undefined],
    [0.5, 50_000],
    [1.5, 150_000],
    [0.01, 1000],
    [1.25, 125_000],
  ])("%d processors are %s µs in each 100 ms", (cpus, quota) => {
    expect(resourcesOf({}, { ...SIZE, cpus })?.cpuQuotaUs).toBe(quota);
  });

  test("swap is what --memory-swap has beyond the memory", () => {
    expect(resourcesOf({ memorySwapBytes: 768 * MIB }, SIZE)).toEqual({ swapBytes: 256 * MIB });
  });

  test.each<[ResourceOptions, string]>([
    [{ memorySwapBytes: 511 * MIB }, "--memory-swap: 535822336 bytes are less than the memory, 536870912"],
    [{ memorySwapBytes: -1 }, "--memory-swap: -1 is not an amount of swap"],
    [{ pidsLimit: -2 }, "--pids-limit: -2"],
    [{ pidsLimit: 1.5 }, "--pids-limit: 1.5"],
    [{ oomScoreAdj: 1001 }, "--oom-score-adj: 1001 is not a whole number from -1000 to 1000"],
    [{ ulimits: { files: { soft: 1, hard: 1 } } }, '--ulimit: there is no limit "files"'],
    [{ ulimits: { nofile: { soft: 3, hard: 2 } } }, "less than or equal to hard limit: 3 > 2"],
    [{ ulimits: { nofile: { soft: -1, hard: 2 } } }, "less than or equal to hard limit: -1 > 2"],
    [{ sysctls: { "../x": "1" } }, '--sysctl: "../x" is not the name of a sysctl'],
    [{ sysctls: { x: "1" } }, '--sysctl: "x"'],
    [{ capAdd: ["FLY"] }, '--cap-add: unknown capability to add: "FLY"'],
    [{ capDrop: ["CAP_FLY"] }, '--cap-drop: unknown capability to drop: "CAP_FLY"'],
    [{ diskBytesPerSecond: 1000 }, "--disk-bps: 1000"],
    [{ diskOperationsPerSecond: 1 }, "--disk-iops: 1 "],
  ])("refuses %j", (options, message) => {
    expect(() => resourcesOf(options, SIZE)).toThrow(message);
  });
});

describe("capabilitiesOf has docker's rules", () => {
  const set = (options: Parameters<typeof capabilitiesOf>[0]) => {
    const { capabilities, allCapabilities } = capabilitiesOf(options);
    return allCapabilities ? "all" : capabilities;
  };
  test("nothing said is the default", () => expect(set({})).toBeUndefined());
  test("all", () => {
    expect(set({ capAdd: ["all"] })).toBe("all");
    expect(set({ privileged: true, capDrop: ["ALL"] })).toBe("all");
  });
  test("all but one", () => {
    const kept = set({ capAdd: ["ALL"], capDrop: ["cap_net_raw"] });
    expect(kept).toHaveLength(40);
    expect(kept).not.toContain("CAP_NET_RAW");
  });
  test("only those that are named", () => {
    expect(set({ capDrop: ["ALL"], capAdd: ["chown", "CAP_SYS_TIME"] })).toEqual([
      "CAP_CHOWN",
      "CAP_SYS_TIME",
    ]);
    expect(set({ capDrop: ["ALL"] })).toEqual([]);
  });
  test("the default with and without some", () => {
    const kept = set({ capDrop: ["MKNOD"], capAdd: ["SYS_TIME", "CHOWN"] });
    expect(kept).toHaveLength(14);
    expect(kept).toEqual(expect.arrayContaining(["CAP_SYS_TIME", "CAP_CHOWN"]));
    expect(kept).not.toContain("CAP_MKNOD");
  });
});

describe("what the guest is told", () => {
  test("a limit of -1 is none", () => {
    const ulimits = [{ type: "RLIMIT_CORE", soft: -1, hard: -1 }];
    expect(rlimitsSpec({ ulimits })).toEqual([
      { type: "RLIMIT_CORE", soft: 18_446_744_073_709_551_615n, hard: 18_446_744_073_709_551_615n },
    ]);
    expect(rlimitsSpec(undefined)).toEqual([]);
  });

  test("no capabilities at all are not the default ones", () => {
    expect(resourceSpec({ capabilities: [] }).privileges).toMatchObject({
      capabilities: [],
      defaultCapabilities: false,
    });
    expect(resourceSpec({ pidsLimit: 5 }).privileges).toMatchObject({ defaultCapabilities: true });
    expect(resourceSpec({ allCapabilities: true }).privileges).toMatchObject({
      allCapabilities: true,
      defaultCapabilities: false,
    });
  });
});

describe("sizedMachine", () => {
  const machine = {
    vcpuCount: 1,
    memoryMib: 512,
    bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
    drives: [
      { id: "rootfs", path: "/r", device: "pmem", readOnly: true, cache: "unsafe" },
      { id: "upper", path: "/u", readOnly: false, cache: "writeback" },
      { id: "control", path: "/c", readOnly: false, cache: "unsafe" },
    ],
    vsock: { guestCid: 3, socketPath: "/s" },
  } as const;

  test("has whole processors, and limits on its disks alone", () => {
    const sized = sizedMachine(machine, {
      cpus: 1.5,
      memoryMib: 256,
      limits: { diskLimit: { bytesPerSecond: 5 } },
    });
    expect(sized).toMatchObject({ vcpuCount: 2, memoryMib: 256 });
    expect(sized.drives.map(({ id, limit }) => [id, limit])).toEqual([
      ["rootfs", undefined],
      ["upper", { bytesPerSecond: 5 }],
      ["control", undefined],
    ]);
    expect(limitedDrives(sized)).toEqual(["upper"]);
  });

  test("loses a limit that is there no more", () => {
    const before = sizedMachine(machine, { ...SIZE, limits: { diskLimit: { bytesPerSecond: 5 } } });
    const after = sizedMachine(before, { ...SIZE, limits: undefined });
    expect(after.drives[1]).not.toHaveProperty("limit");
  });
});
