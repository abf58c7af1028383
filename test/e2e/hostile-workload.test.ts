import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

/** Debian's minbase has Perl, which can speak AF_VSOCK. */
const IMAGE = `oci:${IMAGES}/nginx`;
const SOON = { timeout: 240_000, interval: 1000 };

/** sockaddr_vm: family 40, port, CID. https://man7.org/linux/man-pages/man7/vsock.7.html */
const VSOCK = `
sub address { my ($port, $cid) = @_; return pack("SSLLx4", 40, 0, $port, $cid) }
sub vsock { socket(my $s, 40, 1, 0) or die "no vsock: $!"; return $s }
`;

const REACH = `${VSOCK}
for my $cid (1, 3, 0xffffffff) {
  my $s = vsock();
  if (!connect($s, address(1024, $cid))) { print "$cid: refused\\n"; next }
  # What HTTP/2 begins with; a server that takes it answers.
  syswrite($s, "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" . pack("CCCCCN", 0, 0, 0, 4, 0, 0));
  my $n = sysread($s, my $answer, 100);
  print "$cid: ", ($n ? "ANSWERED" : "closed"), "\\n";
}
for my $cid (3, 0xffffffff) {
  my $s = vsock();
  print "pose as $cid: ", (bind($s, address(1024, $cid)) ? "BOUND" : "refused"), "\\n";
}
`;

const FLOOD = `${VSOCK}
my @open;
for my $i (1 .. 2000) { my $s = vsock(); connect($s, address(1024, 3)); push @open, $s if $i % 2 }
print "flooded\\n"; sleep 30;
`;

/** Prints what processes that come up beside it have open, as long as it may look. */
const SPY = `
$| = 1; print "watching\n";
my %seen = ($$ => 1);
while (1) {
  opendir(my $proc, "/proc");
  for my $pid (grep { /^\\d+$/ && !$seen{$_} } readdir $proc) {
    for my $fd (glob "/proc/$pid/fd/*") {
      my $link = readlink $fd;
      next if !defined $link || $link =~ m{^(pipe:|/dev/null$|/dev/pts/|/usr/|/etc/|/lib)};
      print "$link\n";
    }
  }
}
`;
/** Directories without the program: looking through them takes a while. */
const LONG_PATH = Array.from({ length: 2000 }, (_, index) => `/nowhere/${index}`).join(":");

onEveryBackend("a hostile workload", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "vm", "-m", "256m", "--disk-size", "64m", "--privileged"],
      ...["--entrypoint", "/bin/sleep", IMAGE, "100000"],
    ]);
  });
  afterAll(async () => {
    await sandbox.call(["rm", "-f", "vm"]);
    await sandbox.closeEmpty();
  });
  const inside = (script: string) => sandbox.call(["exec", "vm", "/bin/sh", "-c", script]);
  const perl = (script: string) => sandbox.call(["exec", "vm", "perl", "-e", script]);
  const answers = () => sandbox.ok(["exec", "vm", "echo", "alive"]);

  test("cannot reach the agent, nor take its place", async () => {
    const { stdout, stderr } = await perl(REACH);
    expect(stderr).toBe("");
    expect(stdout).not.toMatch(/ANSWERED|BOUND/);
    expect(stdout.split("\n")).toHaveLength(6);
    expect(await answers()).toBe("alive\n");
  });

  test("cannot see or kill it, whatever its privileges", async () => {
    const seen = await inside("cat /proc/[0-9]*/comm");
    expect(seen.stdout).not.toMatch(/init|agent/);
    await inside("kill -9 0; kill -9 1; true");
    expect(await answers()).toBe("alive\n");
  });

  test.each([
    ["by itself", []],
    ["that may trace", ["--cap-add", "SYS_PTRACE"]],
  ])("a spy %s finds nothing of the agent's in what exec starts", async (_, flags) => {
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "spy", "-e", `PATH=${LONG_PATH}:/bin`, ...flags],
      ...["--entrypoint", "/usr/bin/perl", IMAGE, "-e", SPY],
    ]);
    try {
      await expect.poll(() => sandbox.ok(["logs", "spy"]), SOON).toBe("watching\n");
      for (let round = 0; round < 10; round++) {
        expect(await sandbox.ok(["exec", "spy", "echo", "unseen"])).toBe("unseen\n");
      }
      const seen = new Set((await sandbox.ok(["logs", "spy"])).trim().split("\n"));
      // A tracer sees the one socket on which the process tells whether it has executed.
      expect([...seen].filter((link) => !(flags.length > 0 && link.startsWith("socket:")))).toEqual([
        "watching",
      ]);
    } finally {
      await sandbox.call(["rm", "-f", "spy"]);
    }
  });

  test("stops whatever comes up beside it, and its health check and exec end all the same", async () => {
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "stopper", "--health-cmd", "true", "--health-retries", "1"],
      ...["--health-interval", "1s", "--health-timeout", "3s", "--entrypoint", "/bin/sh", IMAGE],
      ...["-c", "sleep 5; while :; do kill -STOP -1; done"],
    ]);
    try {
      const health = ["inspect", "-f", "{{json .health}}", "stopper"];
      await expect.poll(() => sandbox.ok(health), SOON).toContain("exceeded timeout");
      const held = sandbox.start(["exec", "stopper", "true"]);
      await sleep(3000);
      held.kill("SIGTERM");
      await expect
        .poll(() => sandbox.ok(["top", "stopper", "-o", "comm"]), SOON)
        .not.toMatch(/init|agent|true/);
    } finally {
      await sandbox.call(["rm", "-f", "stopper"]);
    }
  });

  test("floods its port to no avail", async () => {
    const flooding = sandbox.start(["exec", "vm", "perl", "-e", FLOOD]);
    await expect.poll(() => flooding.stdout() + flooding.stderr(), SOON).toContain("flooded");
    expect(await answers()).toBe("alive\n");
    flooding.kill("SIGKILL");
  });

  test("fills its disk, and is served and stopped all the same", async () => {
    const filled = await inside("cat /dev/zero >/full; echo $?; df / | tail -1");
    expect(filled.stderr).toContain("No space left on device");
    expect(await answers()).toBe("alive\n");
    await inside("rm /full");
  });

  test("forks without end within --pids-limit, and exec still works", async () => {
    await sandbox.ok(["update", "--pids-limit", "64", "vm"]);
    await bombAndSurvive(64);
  });

  test("forks without end and without --pids-limit, and exec still works", async () => {
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "bomb", "-m", "256m", "--entrypoint", "/bin/sh", IMAGE],
      ...["-c", "bomb() { bomb | bomb & }; sleep 5; bomb; while :; do sleep 1000; done"],
    ]);
    try {
      await expect
        .poll(
          async () =>
            Number((await sandbox.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "bomb"])).trim()),
          SOON,
        )
        .toBeGreaterThan(100);
      expect(await sandbox.ok(["exec", "bomb", "echo", "alive"])).toBe("alive\n");
      // So many processes take the kernel long to end.
      await sandbox.ok(["stop", "--keep", "-t", "1", "bomb"]);
      const record = sandbox.records().find(({ name }) => name === "bomb");
      expect(record?.["state"]).toBe("exited");
      // Of SIGTERM, or where the guest did not get that far in time, of the VMM's end.
      expect([143, 137]).toContain(record?.["exitCode"]);
    } finally {
      await sandbox.call(["rm", "-f", "bomb"]);
    }
  });

  test("forks without end in exec, and neither the agent nor the workload notices", async () => {
    // Few: a kernel that can manage more runs out of memory first.
    await sandbox.ok([
      ...["run", "-d", "--vmm", vmm, "--name", "host", "-m", "256m", "--sysctl", "kernel.threads-max=400"],
      ...["--entrypoint", "/bin/sh", IMAGE, "-c", "while :; do /bin/sleep 1; echo beat; done"],
    ]);
    try {
      await sandbox.ok(["exec", "-d", "host", "/bin/sh", "-c", "while :; do sleep 1000 & done"]);
      const pids = async () =>
        Number(await sandbox.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "host"]));
      await expect.poll(pids, SOON).toBeGreaterThan(90);
      expect(await pids()).not.toBeGreaterThan(110);
      expect(await sandbox.ok(["exec", "host", "echo", "alive"])).toBe("alive\n");
      expect(await sandbox.ok(["top", "host"])).toContain("sleep 1000");
      const beats = async () => (await sandbox.ok(["logs", "host"])).split("\n").length;
      const before = await beats();
      await expect.poll(beats, SOON).toBeGreaterThan(before + 1);
    } finally {
      await sandbox.call(["rm", "-f", "host"]);
    }
  });

  /** Not where exec has put it: the bomb is to be where the workload is. */
  async function bombAndSurvive(limit: number): Promise<void> {
    const script = [
      "for group in /sys/fs/cgroup/cgroup.procs; do echo $$ >$group; done",
      "bomb() { bomb | bomb & }; bomb; sleep 10; cat /sys/fs/cgroup/pids.current",
    ].join("\n");
    const bombing = sandbox.start(["exec", "vm", "/bin/sh", "-c", script]);
    await expect
      .poll(async () => {
        const text = await sandbox.ok(["exec", "vm", "cat", "/sys/fs/cgroup/pids.current"]);
        return Number(text);
      }, SOON)
      .toBeGreaterThan(limit / 2);
    expect(await answers()).toBe("alive\n");
    expect(
      Number(await sandbox.ok(["exec", "vm", "cat", "/sys/fs/cgroup/pids.current"])),
    ).toBeLessThanOrEqual(limit);
    bombing.kill("SIGKILL");
  }
});
