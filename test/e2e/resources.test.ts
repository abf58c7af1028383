import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

const IMAGE = `oci:${IMAGES}/layers`;
/** Has util-linux. */
const DEBIAN = `oci:${IMAGES}/nginx`;
const SOON = { timeout: 120_000, interval: 500 };
const MIB = 1024 * 1024;

onEveryBackend("limits and privileges", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "vm", "--cpus", "0.5", "-m", "384m", "--memory-swap", "448m"],
      ...[
        "--pids-limit",
        "60",
        "--ulimit",
        "nofile=1000:2000",
        "--ulimit",
        "core=0",
        "--oom-score-adj",
        "100",
      ],
      ...["--sysctl", "net.core.somaxconn=77", "--cap-add", "SYS_TIME", "--cap-drop", "mknod"],
      ...["--security-opt", "no-new-privileges", "--group-add", "4242", "--domainname", "lan", "-h", "web"],
      ...["--add-host", "db:10.0.0.7", "--dns", "10.0.0.1", "--dns-search", "lan", "--dns-option", "ndots:2"],
      ...[IMAGE, "/bin/sh", "-c", "while :; do sleep 1000 & wait; done"],
    ]);
  });
  afterAll(async () => {
    await sandbox.call(["rm", "-f", "vm"]);
    await sandbox.closeEmpty();
  });
  const inside = (script: string): Promise<string> => sandbox.ok(["exec", "vm", "/bin/sh", "-c", script]);

  test("are those that were asked for, in the words of control groups", async () => {
    const text = await inside("cd /sys/fs/cgroup; cat cpu.max pids.max memory.max memory.swap.max");
    const [cpu, pids, memory, swap] = text.trimEnd().split("\n");
    expect([cpu, pids, swap]).toEqual(["50000 100000", "60", String(64 * MIB)]);
    // Less than the VM's, which the agent lives in too.
    expect(Number(memory)).toBeGreaterThan(250 * MIB);
    expect(Number(memory)).toBeLessThan(360 * MIB);
    expect(await inside("cat /proc/swaps")).toMatch(/\s65532\s/);
  });

  test("hold for each process", async () => {
    expect(await inside("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj")).toBe(
      "1000\n2000\n0\n100\n",
    );
    const status = await inside("grep -E '^(CapEff|CapBnd|NoNewPrivs|Groups)' /proc/self/status");
    // Docker's default set without CAP_MKNOD (27) and with CAP_SYS_TIME (25).
    expect(status).toMatch(/^CapEff:\s+00000000a20425fb$/m);
    expect(status).toMatch(/^CapBnd:\s+00000000a20425fb$/m);
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^Groups:.*\b4242\b/m);
  });

  test("names and the kernel's settings are set", async () => {
    expect(await inside("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/domainname")).toBe("77\nlan\n");
    expect(await inside("cat /etc/hosts")).toMatch(/\n10\.0\.0\.7\tdb\n127\.0\.0\.1\tweb\.lan web\n$/);
    const resolver = "nameserver 10.0.0.1\nsearch lan\noptions ndots:2\n";
    expect((await inside("cat /etc/resolv.conf")).endsWith(resolver)).toBe(true);
  });

  test("half a processor is had half of the time", async () => {
    const spin = "read -r before _ </proc/uptime; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    await inside(spin);
    const stats = JSON.parse(await sandbox.ok(["stats", "--no-stream", "--json", "vm"])) as {
      Guest: { throttledMs: number };
    };
    expect(stats.Guest.throttledMs).toBeGreaterThan(0);
  });

  test("update changes what runs, and gives memory back", async () => {
    await inside("dd if=/dev/zero of=/dev/null bs=140M count=1 2>&1");
    await sandbox.ok(["update", "-m", "200m", "--cpus", "1", "--pids-limit", "0", "--disk-bps", "20m", "vm"]);
    const text = await inside("cd /sys/fs/cgroup; cat cpu.max memory.max");
    const [cpu, memory] = text.trimEnd().split("\n");
    expect(cpu).toBe("max 100000");
    expect(Number(memory)).toBeLessThan(176 * MIB);
    await expect
      .poll(async () => {
        const line = await sandbox.ok(["stats", "--no-stream", "--json", "vm"]);
        return (JSON.parse(line) as { Host: { memoryBytes: number } }).Host.memoryBytes / MIB;
      }, SOON)
      .toBeLessThan(vmm === "qemu" ? 330 : 230);
    await sandbox.ok(["update", "-m", "384m", "vm"]);
    expect(Number(await inside("cat /sys/fs/cgroup/memory.max"))).toBeGreaterThan(250 * MIB);
    expect(sandbox.records()).toMatchObject([{ cpus: 1, memoryMib: 384, state: "running" }]);
  });

  test("a disk takes no more than its limit, a burst of a second aside", async () => {
    await sandbox.ok(["update", "--disk-bps", "4m", "vm"]);
    const write = "dd if=/dev/zero of=/big bs=1M count=20 conv=fsync 2>/dev/null; rm /big";
    const [before, after] = (
      await inside(`sync; cut -d. -f1 /proc/uptime; ${write}; cut -d. -f1 /proc/uptime`)
    )
      .trim()
      .split("\n");
    expect(Number(after) - Number(before)).toBeGreaterThanOrEqual(3);
    expect(sandbox.records()[0]).toHaveProperty("workload.resources.diskLimit.bytesPerSecond", 4 * MIB);
    await sandbox.ok(["update", "--disk-bps", "0", "vm"]);
    expect(sandbox.records()[0]).not.toHaveProperty("workload.resources.diskLimit.bytesPerSecond");
  });

  test("what a running VM cannot have is refused, with what to do", async () => {
    for (const flags of [
      ["--cpus", "2"],
      ["-m", "1g"],
      ["--memory-swap", "2g"],
    ]) {
      const refused = await sandbox.call(["update", ...flags, "vm"]);
      expect(refused.status).toBe(4);
      expect(refused.stderr).toContain("until it is started again");
    }
    // More than what is to be left, and the swap.
    const hold = "(head -c 157286400 /dev/zero; sleep 1000) | tail";
    await sandbox.ok(["exec", "-d", "vm", "/bin/sh", "-c", hold]);
    const held = async (): Promise<number> =>
      Number(await inside("awk '/^VmRSS/ { print $2 }' /proc/$(pidof tail)/status")) * 1024;
    await expect.poll(held, SOON).toBeGreaterThan(145 * MIB);
    const inUse = await sandbox.call(["update", "-m", "128m", "vm"]);
    expect(inUse.status).not.toBe(0);
    expect(inUse.stderr).toMatch(/uses \d+ bytes and would be left with/);
    expect(await inside("killall tail; echo alive")).toBe("alive\n");
  });

  test("a stopped VM has it from its next start on", async () => {
    await sandbox.ok(["stop", "--keep", "-t", "0", "vm"]);
    await sandbox.ok(["update", "-m", "256m", "--pids-limit", "33", "--memory-swap", "256m", "vm"]);
    await sandbox.ok(["start", "vm"]);
    const text = await inside("cat /sys/fs/cgroup/pids.max /proc/meminfo /proc/swaps");
    expect(text.startsWith("33\n")).toBe(true);
    expect(Number(/^MemTotal:\s+(\d+)/m.exec(text)?.[1])).toBeLessThan(256 * 1024);
    expect(text).not.toContain("firectl-swap");
  });
});

/** Whatever is called so gets what systemd needs. */
const SYSTEMD = "/usr/local/bin/systemd";
/** Each lifts the limit that it sees, by what is open to it, and says so. */
const LIFTS: readonly (readonly [string, readonly string[], string])[] = [
  [
    "root in a user namespace",
    [],
    `unshare -UrmC sh -c 'mount -t cgroup2 none /mnt && echo max >/mnt/pids.max && cat /mnt/pids.max'`,
  ],
  [
    "root in a namespace below its own",
    [],
    `unshare -UrmC sh -c 'mount -t cgroup2 none /mnt && mkdir /mnt/below && echo $$ >/mnt/below/cgroup.procs &&
      unshare -C sh -c "echo max >/mnt/pids.max" && cat /mnt/pids.max'`,
  ],
  [
    "an image's systemd, whose control groups are writable",
    ["--entrypoint", SYSTEMD],
    "echo max >/sys/fs/cgroup/pids.max && cat /sys/fs/cgroup/pids.max",
  ],
  [
    "a privileged workload",
    ["--privileged"],
    "mount -t cgroup2 none /mnt && echo max >/mnt/pids.max && cat /mnt/pids.max",
  ],
];

onEveryBackend("the limit of processes", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  test.each(LIFTS)("holds for %s, which can change only what it sees", async (_, flags, lift) => {
    const script = path.join(sandbox.directory, "script");
    // A shell that cannot fork ends: the last one need not.
    const body = `${lift}\n(for i in $(seq 40); do sleep 1000 & done)\necho at the limit\nexec sleep 100000\n`;
    await writeFile(script, `#!/bin/sh\n${body}`, { mode: 0o755 });
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "vm", "-m", "256m", "--pids-limit", "20"],
      ...["-v", `${script}:${SYSTEMD}:ro`, "--entrypoint", "/bin/sh", ...flags, DEBIAN, SYSTEMD],
    ]);
    try {
      const said = () => sandbox.call(["logs", "vm"]).then(({ stdout }) => stdout);
      await expect.poll(said, SOON).toBe("max\nat the limit\n");
      const pids = async () =>
        Number(await sandbox.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "vm"]));
      await expect.poll(pids, SOON).toBeGreaterThan(15);
      expect(await pids()).not.toBeGreaterThan(20);
    } finally {
      await sandbox.ok(["rm", "-f", "vm"]);
    }
  });
});

onEveryBackend("a privileged workload", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  test("has every capability and device, and nothing is masked", async () => {
    const script = [
      "grep CapEff /proc/self/status; test -b /dev/vda && echo disk",
      "echo 99 >/proc/sys/net/core/somaxconn && cat /proc/sys/net/core/somaxconn",
      "head -c 1 /dev/vda >/dev/null && echo read",
      "mkdir /mnt; mount -t tmpfs none /mnt && echo mounted",
    ].join("\n");
    const text = await sandbox.ok([
      "run",
      "--rm",
      "--vmm",
      vmm,
      "--privileged",
      IMAGE,
      "/bin/sh",
      "-c",
      script,
    ]);
    expect(text).toMatch(/^CapEff:\s+000001ffffffffff\ndisk\n99\nread\nmounted\n$/);
  });
});

describe("what a VM cannot have", () => {
  test.each([
    [["--device", "/dev/kvm"], "the host's devices are not the VM's"],
    [["--cpuset-cpus", "0"], "taskset"],
    [["--device-read-bps", "/dev/sda:1m"], "--disk-bps"],
    [["--memory-reservation", "1g"], "firectl update to take some back"],
    [["--security-opt", "seccomp=p.json"], "Firecracker's seccomp filter"],
  ])("%j is refused with a reason", async (flags, reason) => {
    await using sandbox = await Sandbox.create();
    const refused = await sandbox.call(["run", ...flags, IMAGE]);
    expect(refused.status).toBe(125);
    expect(refused.stderr).toContain(reason);
  });
});
