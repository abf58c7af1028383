import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend, machine } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const PROBE = readFileSync(path.join(import.meta.dirname, "support/view-probe.sh"), "utf8");
const IMAGE = "firectl-test/like-docker:1";

/** Facts that may differ, and why: docs/docker.md tells users of them. */
const DIFFERENCES: ReadonlyArray<{ readonly fact: RegExp; readonly because: string }> = [
  { fact: /^status SigIgn: /, because: "docker passes on what its daemon was started with" },
  { fact: /^status Seccomp: /, because: "the workload has a kernel of its own: no filter of system calls" },
  { fact: /^limit Max (open files|processes|pending signals) /, because: "limits of another kernel" },
  {
    fact: /^cgroup |^limits |^access \/sys\/fs\/cgroup/,
    because: "a VM has cgroup v2, whatever the host has",
  },
  { fact: /^(mount|file) \/sys\/fs\/cgroup/, because: "a VM has cgroup v2, whatever the host has" },
  { fact: /^mount \/ /, because: "noatime spares the disk" },
  { fact: /^mount \/etc\/(hosts|hostname|resolv\.conf) /, because: "they are files of the root filesystem" },
  { fact: /^(mount|dev|access) .*\/proc\/(kcore|sysrq-trigger)/, because: "not every host has them" },
  {
    fact: /^file-(hosts|resolv) /,
    because: "there is no network unless it is asked for; newer dockers write hosts as we do",
  },
];

describe.skipIf(machine().dockerMissing !== undefined)("a workload's view is that of a container", () => {
  const docker = (args: readonly string[]) => run("docker", ["-H", machine().dockerHost ?? "", ...args]);
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    const host = machine().dockerHost ?? "";
    await run("skopeo", [
      ...["copy", "--dest-daemon-host", host, `oci:${IMAGES}/app:latest`, `docker-daemon:${IMAGE}`],
    ]);
  });
  afterAll(async () => {
    await docker(["rmi", "-f", IMAGE]);
    await sandbox.closeEmpty();
  });

  test.each<[string, readonly string[]]>([
    ["as the image says", []],
    ["as root", ["-u", "0"]],
    [
      "elsewhere, with a name and variables",
      ["-h", "probe", "-u", "web:0", "-w", "/new/place", "-e", "B=x y"],
    ],
    ["with a read-only root", ["--read-only"]],
  ])("%s", async (_what, flags) => {
    const command = ["--entrypoint", "/bin/sh"];
    const given = flags.includes("-h") ? flags : ["-h", "host", ...flags];
    const theirs = await docker([
      "run",
      "--rm",
      "--network",
      "none",
      ...given,
      ...command,
      IMAGE,
      "-c",
      PROBE,
    ]);
    const ours = await sandbox.ok([
      "run",
      "--rm",
      "-q",
      "--vmm",
      anyBackend(),
      ...given,
      ...command,
      `oci:${IMAGES}/app`,
      "-c",
      PROBE,
    ]);
    const [container, vm] = [factsOf(theirs), factsOf(ours)];
    expect(vm.size).toBeGreaterThan(80);
    expect(vm).toContain("status SigIgn: 0000000000000000");
    expect({
      onlyInDocker: unexplained(container, vm),
      onlyInFirectl: unexplained(vm, container),
    }).toEqual({ onlyInDocker: [], onlyInFirectl: [] });
  });
});

function factsOf(text: string): Set<string> {
  return new Set(text.trimEnd().split("\n"));
}

function unexplained(some: ReadonlySet<string>, others: ReadonlySet<string>): string[] {
  return [...some].filter((line) => !others.has(line) && !DIFFERENCES.some(({ fact }) => fact.test(line)));
}
