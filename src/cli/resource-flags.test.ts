import { describe, expect, test } from "vitest";
import type { RunOptions } from "../manager/api.ts";
import { firectl, startedVm } from "./cli.test-helper.ts";

async function resourcesOf(argv: readonly string[]): Promise<RunOptions["resources"]> {
  let seen: RunOptions | undefined;
  const result = await firectl(["run", "-d", ...argv, "img"], {
    operations: {
      async run(options) {
        seen = options;
        return startedVm({});
      },
    },
  });
  expect(result.stderr).toBe("");
  return seen?.resources;
}

describe("limits and privileges", () => {
  test("are nothing when nothing is said", async () => {
    expect(await resourcesOf([])).toBeUndefined();
    expect(await resourcesOf(["--security-opt", "seccomp=unconfined"])).toBeUndefined();
    expect(await resourcesOf(["--dns-search", "."])).toEqual({ dnsSearch: [] });
    expect(await resourcesOf(["--security-opt", "no-new-privileges=false"])).toBeUndefined();
  });

  test("are docker's flags", async () => {
    const argv = [
      ...["--memory-swap", "1g", "--pids-limit", "-1", "--disk-bps", "10m", "--disk-iops", "100"],
      ...["--ulimit", "nofile=1024:2048", "--ulimit", "core=-1", "--oom-score-adj", "-5"],
      ...["--sysctl", "net.core.somaxconn=1024", "--cap-add", "SYS_TIME", "--cap-drop", "all"],
      ...["--privileged", "--security-opt", "no-new-privileges", "--security-opt", "systempaths=unconfined"],
      ...["--group-add", "audio", "--domainname", "lan", "--add-host", "db:10.0.0.7"],
      ...[
        "--add-host",
        "v6=[fd00::1]",
        "--dns",
        "10.0.0.1",
        "--dns-search",
        "lan",
        "--dns-option",
        "ndots:2",
      ],
    ];
    expect(await resourcesOf(argv)).toEqual({
      memorySwapBytes: 1024 ** 3,
      pidsLimit: -1,
      diskBytesPerSecond: 10 * 1024 ** 2,
      diskOperationsPerSecond: 100,
      ulimits: { nofile: { soft: 1024, hard: 2048 }, core: { soft: -1, hard: -1 } },
      oomScoreAdj: -5,
      sysctls: { "net.core.somaxconn": "1024" },
      capAdd: ["SYS_TIME"],
      capDrop: ["all"],
      privileged: true,
      noNewPrivileges: true,
      unmasked: true,
      groupAdd: ["audio"],
      domainname: "lan",
      extraHosts: [
        { name: "db", address: "10.0.0.7" },
        { name: "v6", address: "fd00::1" },
      ],
      dns: ["10.0.0.1"],
      dnsSearch: ["lan"],
      dnsOptions: ["ndots:2"],
    });
  });

  test.each([
    [["--memory-swap", "-1"], '--memory-swap: "-1" is not an amount of swap'],
    [["--pids-limit", "x"], '--pids-limit: "x" is not a whole number up to 4194304, or -1 for no limit'],
    [["--ulimit", "nofile"], '--ulimit: "nofile" is not a limit'],
    [["--ulimit", "nofile=1:2:3"], '--ulimit: "nofile=1:2:3" is not a limit'],
    [["--ulimit", "nofile=-2"], '--ulimit: "nofile=-2" is not a limit'],
    [["--sysctl", "net.core.somaxconn"], '--sysctl: "net.core.somaxconn" is not a setting'],
    [["--security-opt", "seccomp=/p.json"], "--security-opt seccomp=/p.json is not supported"],
    [["--security-opt", "fly"], "--security-opt fly is not supported"],
    [["--add-host", "db:nowhere"], '--add-host: "db:nowhere" is not a host and its address'],
    [["--add-host", "h:host-gateway"], "--add-host h:host-gateway is not supported"],
    [
      ["--dns", "one"],
      '--dns: "one" is not an IP address\nhint: write an address, not a name: --dns 10.0.0.1\n',
    ],
    [["--oom-score-adj", "-1001"], '--oom-score-adj: "-1001" is not a whole number from -1000 to 1000'],
    [["--device", "/dev/kvm"], "--device of docker run is not supported"],
    [["--cpuset-cpus", "0"], "--cpuset-cpus of docker run is not supported"],
  ])("refuses %j", async (flags, message) => {
    const result = await firectl(["run", ...flags, "img"]);
    expect(result.status).toBe(125);
    expect(result.stderr).toContain(message);
  });
});

test("update's help has no defaults of run's: what is not given stays", async () => {
  const { stdout } = await firectl(["update", "--help"]);
  expect(stdout).toContain("What is not given stays as it is.");
  expect(stdout).not.toMatch(/default/);
  expect((await firectl(["run", "--help"])).stdout).toMatch(/--cpus N .*\(default 1\)/);
});
