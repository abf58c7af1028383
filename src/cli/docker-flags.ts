/**
 * Flags of docker's commands that firectl knows of and does not have: whoever comes from docker should read
 * that, and not wonder about the spelling. https://docs.docker.com/reference/cli/docker/container/run/
 */
const RUN_FLAGS: Readonly<Record<string, string>> = {
  annotation: "",
  "blkio-weight": "use --disk-bps or --disk-iops",
  "blkio-weight-device": "use --disk-bps or --disk-iops",
  "cgroup-parent": "",
  cgroupns: "",
  "cpu-count": "use --cpus",
  "cpu-percent": "use --cpus",
  "cpu-period": "use --cpus",
  "cpu-quota": "use --cpus",
  "cpu-rt-period": "",
  "cpu-rt-runtime": "",
  "cpu-shares": "VMs share processors as processes do: nice firectl run ..., or a limit with --cpus",
  c: "VMs share processors as processes do: nice firectl run ..., or a limit with --cpus",
  "cpuset-cpus": "the VM runs where firectl does: taskset -c 0,1 firectl run ...",
  "cpuset-mems": "the VM's memory comes from where firectl's does: numactl -m 0 firectl run ...",
  device: "a VM has no devices of the host's; a disk can be a volume",
  "device-cgroup-rule": "a VM has no devices of the host's",
  "device-read-bps": "use --disk-bps, which limits each of the VM's disks",
  "device-read-iops": "use --disk-iops, which limits each of the VM's disks",
  "device-write-bps": "use --disk-bps, which limits each of the VM's disks",
  "device-write-iops": "use --disk-iops, which limits each of the VM's disks",
  "disable-content-trust": "",
  expose: "",
  gpus: "Firecracker has no way to give a guest a device of the host's",
  ip: "",
  ip6: "",
  ipc: "",
  isolation: "",
  "kernel-memory": "use -m",
  link: "",
  "link-local-ip": "",
  "log-driver": "use firectl logs",
  "log-opt": "use --log-size",
  "mac-address": "",
  "memory-reservation":
    "a VM's memory is its own: use -m, and firectl update -m to take some back while it runs",
  "memory-swappiness": "use --sysctl vm.swappiness=N",
  net: "",
  "net-alias": "",
  network: "",
  "network-alias": "",
  "oom-kill-disable": "Linux's control groups cannot do it any more; use --oom-score-adj",
  pid: "",
  publish: "reach the workload with firectl exec",
  p: "reach the workload with firectl exec",
  "publish-all": "reach the workload with firectl exec",
  P: "reach the workload with firectl exec",
  restart: "",
  runtime: "use --vmm to choose the virtual machine monitor",
  "storage-opt": "use --disk-size",
  "use-api-socket": "",
  userns: "",
  uts: "",
  "volume-driver": "volumes are ext4 disks of this host",
};

const BY_COMMAND: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  run: RUN_FLAGS,
  list: { last: "", n: "", latest: "", l: "", size: "", s: "" },
  start: { checkpoint: "", "checkpoint-dir": "" },
  rm: { link: "", l: "" },
  inspect: { size: "", s: "", type: "" },
  images: { all: "", a: "", digests: "", filter: "", f: "", tree: "" },
  pull: { "all-tags": "", a: "", "disable-content-trust": "" },
  rmi: { force: "", f: "", "no-prune": "" },
};

/**
 * Whether docker's command of that name has the flag (without dashes) that firectl lacks: the hint that
 * there is about it, which may be empty, else undefined.
 */
export function missingDockerFlag(command: string, flag: string): string | undefined {
  const flags = BY_COMMAND[command];
  return flags !== undefined && Object.hasOwn(flags, flag) ? flags[flag] : undefined;
}
