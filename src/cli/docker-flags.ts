/** Flags of a docker command that firectl lacks, for one reason. */
interface MissingFlags {
  /** Without dashes. */
  readonly flags: readonly string[];
  /** Why, or what to do instead. */
  readonly hint: string;
  /** firectl is to have them one day. */
  readonly isPlanned?: true;
}

/**
 * Flags of docker's commands that firectl knows of and does not have: whoever comes from docker should read
 * that, and not wonder about the spelling. The rows of docs/docker.md that say "refused", in its words.
 * https://docs.docker.com/reference/cli/docker/container/run/
 */
const RUN_FLAGS: readonly MissingFlags[] = [
  { flags: ["annotation"], hint: "there is no OCI runtime to pass it to; use --label" },
  {
    flags: ["blkio-weight", "blkio-weight-device"],
    hint: "a VM's disks are its own; limit them with --disk-bps and --disk-iops",
  },
  { flags: ["cgroup-parent", "cgroupns"], hint: "the VM's control groups are its own" },
  { flags: ["cpu-count", "cpu-percent"], hint: "for containers on Windows; use --cpus" },
  {
    flags: ["cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "c", "cpu-shares"],
    hint: "a VM has processors of its own; use --cpus",
  },
  {
    flags: ["cpuset-cpus", "cpuset-mems"],
    hint: "start firectl under taskset or numactl instead",
  },
  {
    flags: [
      ...["device", "device-cgroup-rule"],
      ...["device-read-bps", "device-read-iops", "device-write-bps", "device-write-iops"],
    ],
    hint: "the host's devices are not the VM's; --disk-bps and --disk-iops limit its disks",
  },
  {
    flags: ["disable-content-trust"],
    hint: "there is no content trust of Docker's to disable; digests are always checked",
  },
  { flags: ["expose"], hint: "-p publishes a port, whether it is exposed or not" },
  { flags: ["gpus"], hint: "Firecracker passes no devices through" },
  {
    flags: ["ip", "ip6", "link", "link-local-ip", "mac-address", "net", "network-alias", "net-alias"],
    hint: "no network is shared by VMs: --network user, and -p for what is to reach the VM",
  },
  { flags: ["ipc", "pid", "userns", "uts"], hint: "nothing can be shared with another kernel" },
  { flags: ["isolation"], hint: "for containers on Windows: a VM is isolated by a kernel of its own" },
  { flags: ["kernel-memory"], hint: "gone from Linux; use -m" },
  { flags: ["log-driver", "log-opt"], hint: "the output is kept with the VM: --log-size, firectl logs" },
  {
    flags: ["memory-reservation"],
    hint: "the VM's memory is its own: use -m, and firectl update to take some back while it runs",
  },
  { flags: ["memory-swappiness"], hint: "use --sysctl vm.swappiness=N" },
  {
    flags: ["oom-kill-disable"],
    hint: "gone from Linux's control groups, version 2; use --oom-score-adj",
  },
  { flags: ["restart"], hint: "start it again yourself, or from systemd", isPlanned: true },
  { flags: ["runtime"], hint: "--vmm chooses the virtual machine monitor" },
  { flags: ["storage-opt"], hint: "use --disk-size" },
  { flags: ["use-api-socket"], hint: "there is no daemon to speak to" },
  { flags: ["volume-driver"], hint: "volumes are files here" },
];

/** https://docs.docker.com/reference/cli/docker/container/update/ */
const UPDATE_FLAGS: ReadonlySet<string> = new Set([
  ...["blkio-weight", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "c", "cpu-shares"],
  ...["cpuset-cpus", "cpuset-mems", "kernel-memory", "memory-reservation", "restart"],
]);

const LISTS_ALL = "firectl list -a shows all, the newest last";

/** By the name of our command, with docker's for it. */
const MISSING: Readonly<
  Record<string, { readonly docker: string; readonly missing: readonly MissingFlags[] }>
> = {
  run: { docker: "run", missing: RUN_FLAGS },
  update: {
    docker: "update",
    missing: RUN_FLAGS.map((row) => ({ ...row, flags: row.flags.filter((flag) => UPDATE_FLAGS.has(flag)) })),
  },
  list: {
    docker: "ps",
    missing: [
      { flags: ["last", "n", "latest", "l"], hint: LISTS_ALL },
      { flags: ["size", "s"], hint: "firectl df -v shows the size of each VM's disk" },
    ],
  },
  start: {
    docker: "start",
    missing: [{ flags: ["checkpoint", "checkpoint-dir"], hint: "a VM that is started again boots anew" }],
  },
  rm: { docker: "rm", missing: [{ flags: ["link", "l"], hint: "VMs have no links to each other" }] },
  inspect: {
    docker: "inspect",
    missing: [{ flags: ["size", "s"], hint: "firectl df -v shows the size of each VM's disk" }],
  },
  images: {
    docker: "images",
    missing: [
      { flags: ["all", "a"], hint: "nothing is hidden: firectl images shows every image" },
      { flags: ["tree"], hint: "firectl images shows each platform in a line of its own" },
    ],
  },
  pull: {
    docker: "pull",
    missing: [
      { flags: ["all-tags", "a"], hint: "name each tag: firectl pull NAME:TAG [NAME:TAG...]" },
      { flags: ["disable-content-trust"], hint: "digests are always checked" },
    ],
  },
  rmi: {
    docker: "rmi",
    missing: [{ flags: ["no-prune"], hint: "firectl tag gives what is to stay another name first" }],
  },
};

/** A flag that only docker has. */
export interface MissingFlag {
  /** Name of docker's command. */
  readonly docker: string;
  readonly hint: string;
  readonly isPlanned: boolean;
}

/** What there is to say of the flag (without dashes) if docker's form of our command has it and firectl has not. */
export function missingDockerFlag(command: string, flag: string): MissingFlag | undefined {
  const known = Object.hasOwn(MISSING, command) ? MISSING[command] : undefined;
  const row = known?.missing.find(({ flags }) => flags.includes(flag));
  if (known === undefined || row === undefined) return undefined;
  return { docker: known.docker, hint: row.hint, isPlanned: row.isPlanned ?? false };
}

/** Every such flag, by the name of our command. */
export function missingDockerFlags(): readonly { readonly command: string; readonly flag: string }[] {
  return Object.entries(MISSING).flatMap(([command, { missing }]) =>
    missing.flatMap(({ flags }) => flags.map((flag) => ({ command, flag }))),
  );
}
