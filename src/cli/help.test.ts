import { expect, test } from "vitest";
import { firectl } from "./cli.test-helper.ts";
import { COMMANDS, resolveCommand } from "./registry.ts";

test("firectl alone, help, --help and -h print the same", async () => {
  const alone = await firectl([]);
  expect(alone.status).toBe(0);
  expect(alone.stdout).toMatchInlineSnapshot(`
    "Usage:  firectl COMMAND

    Run container images in Firecracker microVMs

    Run:
      run       Run an image's process in a new VM
      start     Start VMs again that have ended
      stop      Stop VMs and remove everything of them
      restart   Stop VMs and start them again
      kill      Send a signal to the workload of VMs
      wait      Wait until VMs end, or are healthy, and print their exit status
      attach    Join a running VM's workload: its output, its input, its terminal
      exec      Run a command in a running VM
      cp        Copy files between a VM and this machine
      export    Write a VM's filesystem as a tar
      update    Change the limits of VMs
      rm        Remove VMs that have ended

    Look:
      list      List the running VMs
      logs      Print what a VM's workload has written
      stats     Show what VMs use, and what they cost this host
      top       List the processes of a running VM
      port      List the ports of this host that lead to a running VM
      inspect   Print everything that is known about VMs or images, as JSON

    Images and kernels:
      pull      Fetch images into the store
      load      Bring the images of an archive into the store
      save      Write images into an archive
      import    Make an image of a root filesystem
      images    List the images in the store
      tag       Give an image a further name
      rmi       Remove images from the store
      prune     Remove what nobody can use any more
      df        Show what takes space on this machine's disk
      kernel    Manage guest kernels
      volume    Manage volumes
      login     Log in to a registry
      logout    Forget the login for a registry

    This machine:
      setup     Check this machine and install what VMs need
      version   Print the versions of firectl and of what it runs on

    Options:
          --json      Print results and errors as JSON, for programs
      -v, --version   Print the version
      -h, --help      Print this help

    Examples:
      $ firectl run --rm alpine echo hello
      $ firectl run -d --name web nginx
      $ firectl logs -f web
      $ firectl stop web

    Run firectl COMMAND --help for more on a command.
    "
  `);
  for (const argv of [["help"], ["--help"], ["-h"]]) expect(await firectl(argv)).toEqual(alone);
});

test("run's help is grouped", async () => {
  const { stdout } = await firectl(["run", "--help"]);
  expect(stdout).toMatchInlineSnapshot(`
    "Usage:  firectl run [OPTIONS] IMAGE [COMMAND [ARG...]]

    Run an image's process in a new VM

    The process's output is ours, and so is its exit status; 125 when firectl fails, 126 and 127 when the
    process cannot be run. The first Ctrl-C goes to the process, the second ends the wait.

    IMAGE is a name in the local store or a registry (nginx, ghcr.io/org/app:v1), or one of

      docker:NAME                an image of the Docker Engine
      docker-archive:FILE[:NAME] a file of docker save or podman save
      oci:DIR[:TAG]              an OCI image layout; oci-archive:FILE[:TAG], the tar of one
      rootfs:DIR-or-TAR          a root filesystem; rootfs:- reads a tar from stdin

    Flags after IMAGE belong to COMMAND.

    Process:
          --entrypoint COMMAND           Replace the image's entrypoint; "" clears it
      -e, --env KEY[=VALUE]              Set a variable; without value, take it from this environment
          --env-file FILE                Set the variables in a file
      -u, --user USER[:GROUP]            User to run as, by name or number
      -w, --workdir DIR                  Working directory
          --init                         Run it under an init that passes signals on and reaps orphans
          --read-only                    Make the root filesystem read-only for the process
          --stop-signal SIGNAL           Signal that asks it to stop (default: the image's, or SIGTERM)
          --stop-timeout SECONDS         How long stop waits before killing (default 10)
          --log-size SIZE                How much of its output is kept for logs, the newest (default 16m)

    Streams:
      -i, --interactive                  Keep the process's stdin open, and pass ours on
      -t, --tty                          Give the process a terminal
      -a, --attach STREAM                Pass on only stdin, stdout or stderr; may be given several times
          --detach-keys KEYS             Keys that leave a terminal (default ctrl-p,ctrl-q)
          --sig-proxy                    Pass signals on to the process (default true); =false: they leave it

    Health:
          --health-cmd COMMAND           Shell command that tells whether the process is well, by its exit status
          --health-interval TIME         Time between two checks (default: the image's, or 30s)
          --health-timeout TIME          How long a check may take (default: the image's, or 30s)
          --health-retries N             Failures in a row that mean unhealthy (default: the image's, or 3)
          --health-start-period TIME     How long failures do not count at first (default: the image's, or 0s)
          --health-start-interval TIME   Time between two checks in that period (default: the image's, or 5s)
          --no-healthcheck               Leave out the image's health check

    Machine:
          --disk-size SIZE               Size of the writable disk, which takes only what is written (default 10g)
          --storage overlay|copy         Writable layer over the shared image (default), or a copy of it
          --image-device KIND            The image as a disk (block), as memory all its VMs share (pmem), or auto
          --boot-snapshot auto|never     Skip the boot by a snapshot of an earlier one (default auto), or never
      -h, --hostname NAME                Host name inside the VM
          --vmm auto|firecracker|qemu    Virtual machine monitor (default auto: Firecracker if it works)
          --kernel NAME|FILE             Guest kernel: an installed one, or an image file with a / in its path
          --kernel-args ARGS             Add to the kernel's command line
          --config FILE                  Start a Firecracker configuration (vm.json) instead of an image

    Limits:
          --cpus N                       Processors, up to 32; of 1.5 the second is had half (default 1)
      -m, --memory SIZE                  Memory of the VM, for example 2g (default 512m)
          --memory-swap SIZE             Memory and swap together, the swap on the VM's disk (default: no swap)
          --pids-limit N                 Processes and threads (default -1: half of what the guest can manage)
          --disk-bps SIZE                Bytes a second of each of its disks, read and written; 0 is no limit
          --disk-iops N                  Reads and writes a second of each of its disks; 0 is no limit
          --network-bps SIZE             Bytes a second that it sends, and that it receives; 0 is no limit
          --network-pps N                Packets a second that it sends, and that it receives; 0 is no limit
          --ulimit NAME=SOFT[:HARD]      Limit of a process, for example nofile=1024:2048; -1 is none
          --oom-score-adj N              How early it is killed when memory runs out, -1000 to 1000
          --sysctl NAME=VALUE            Setting of the VM's kernel

    Privileges:
          --cap-add NAME                 Capability beyond docker's default set, or ALL
          --cap-drop NAME                Capability of docker's default set to do without, or ALL
          --privileged                   All capabilities and devices of the VM, nothing masked
          --security-opt OPTION          no-new-privileges, or systempaths=unconfined
          --group-add GROUP              Further group of the process, by name or number

    Names:
          --domainname NAME              Domain of the host name
          --add-host HOST:IP             Line of /etc/hosts
          --dns IP                       Name server in /etc/resolv.conf
          --dns-search DOMAIN            Domain to search; . is none
          --dns-option OPTION            Option of the resolver

    Image:
          --pull always|missing|never    When to fetch the image (default missing)
          --platform OS/ARCH[/VARIANT]   Platform to take of an image with several
          --max-image-size SIZE          Refuse an image whose layers unpack to more (default 128g)
          --max-image-entries N          Refuse an image with more files and directories (default 2000000)

    Storage:
      -v, --volume [SRC:]PATH[:MODE]     Mount a volume, or a path of the host: live, or with :ro a copy
          --mount KEY=VALUE,...          The same in full: type=volume|bind|tmpfs,src=,dst=,readonly,…
          --tmpfs PATH[:OPTIONS]         Mount memory, for example /run:size=64m,mode=755
          --volumes-from VM[:ro]         Mount what another VM, which does not run, has mounted
          --shm-size SIZE                Size of /dev/shm (default 64m)

    Network:
          --network none|user            Nothing (none, the default), or what you reach from this host (user)
      -p, --publish [[IP:]PORT:]PORT     Let a port of this host lead to one of the VM; /udp after it for UDP
      -P, --publish-all                  The same for all ports that the image exposes, on free ones of this host

    Options:
      -d, --detach                       Print the id and return once the process has started
          --wait                         With -d: return once the process is healthy, fail if it will not be
          --name NAME                    Name of the VM
          --rm                           Remove everything of the VM when its process has ended
      -l, --label KEY=VALUE              Label the VM
          --label-file FILE              Label it from a file
          --cidfile FILE                 Write the VM's id to a new file
      -q, --quiet                        Show no progress
          --timing                       Print where the time went
          --json                         Print results and errors as JSON, for programs
          --help                         Print this help

    Examples:
      $ firectl run --rm alpine echo hello
      $ firectl run -d --name web -m 512m --cpus 2 nginx
      $ firectl run --rm -e DEBUG=1 -w /src docker:my-app npm test
      $ firectl run -d --config vm.json
    "
  `);
});

test("list's help names its aliases", async () => {
  const { stdout } = await firectl(["ps", "-h"]);
  expect(stdout).toMatchInlineSnapshot(`
    "Usage:  firectl list [OPTIONS]

    List the running VMs

    Filters as docker's: name takes a regular expression; ancestor an image, and finds the VMs made from it
    under whatever name it has. Of several values of one key one must fit, of labels every one.

    Aliases:
      firectl ls, firectl ps

    Options:
      -a, --all                List those that have ended too
      -f, --filter KEY=VALUE   Only VMs with this name, status, label, id, ancestor (image), vmm or health
          --format FORMAT      table, json, or a template such as '{{.ID}}\\t{{.Name}}'
          --no-trunc           Do not shorten ids and commands
      -q, --quiet              Print ids only
          --json               Print results and errors as JSON, for programs
      -h, --help               Print this help

    Examples:
      $ firectl list -a
      $ firectl list --filter label=app=web --filter status=exited
      $ firectl list -a --filter 'name=^web-[0-9]+$' --filter ancestor=nginx:1.27
      $ firectl list --format 'table {{.Name}}\\t{{.Status}}'
      $ firectl stop $(firectl list -q)
    "
  `);
});

test("a group's help lists its commands", async () => {
  const { stdout } = await firectl(["kernel"]);
  expect(stdout).toMatchInlineSnapshot(`
    "Usage:  firectl kernel COMMAND

    Manage guest kernels

    Commands:
      list      List the guest kernels
      add       Add a guest kernel
      build     Build firectl's own guest kernel
      default   Choose the kernel that VMs boot
      rm        Remove guest kernels

    Run firectl kernel COMMAND --help for more on a command.
    "
  `);
  expect((await firectl(["help", "kernel"])).stdout).toBe(stdout);
  expect((await firectl(["kernel", "--help"])).stdout).toBe(stdout);
});

test("help COMMAND prints what COMMAND --help does", async () => {
  for (const words of [["exec"], ["kernel", "add"]]) {
    expect(await firectl(["help", ...words])).toEqual(await firectl([...words, "--help"]));
  }
});

test.each(COMMANDS.map((entry) => [entry.names[0], entry] as const))(
  "%s is what the registry says",
  async (name, entry) => {
    const command = await entry.load();
    expect([command.name, ...(command.aliases ?? [])]).toEqual(entry.names);
    expect(resolveCommand(name.split(" "))).toMatchObject({ kind: "command", entry });
    for (const example of command.examples) expect(example).toContain(`firectl ${name}`);
    const shorts = Object.values(command.flags).flatMap((flag) => flag.short ?? []);
    expect(new Set(shorts).size, "no two flags share a letter").toBe(shorts.length);
    const { stdout } = await firectl([...name.split(" "), "--help"]);
    const widest = Math.max(...stdout.split("\n").map((line) => line.length));
    expect(widest, "fits a terminal").toBeLessThanOrEqual(110);
  },
);

test("--version", async () => {
  expect(await firectl(["--version"])).toEqual({ status: 0, stdout: "firectl 0.1.0\n", stderr: "" });
  expect(await firectl(["-v"])).toMatchObject({ stdout: "firectl 0.1.0\n" });
});

test.each([
  [["lsit"], 'unknown command "lsit", did you mean list?'],
  [["kernel", "lst"], 'unknown command "kernel lst", did you mean kernel list?'],
  [["--frobnicate"], 'unknown flag "--frobnicate"'],
  [["constructor"], 'unknown command "constructor"'],
  [["help", "nothing"], 'unknown command "nothing"'],
  [["image", "ls"], 'unknown command "image ls", did you mean images?'],
  [["image", "save", "x"], 'unknown command "image save", did you mean save?'],
  [["help", "container", "ls"], 'unknown command "container ls", did you mean list?'],
  [["system", "df", "-v"], 'unknown command "system df", did you mean df?'],
  [["system", "run"], 'unknown command "system"'],
  [["image", "constructor"], 'unknown command "image", did you mean images?'],
  [["system", "dial-stdio"], 'unknown command "system"'],
])("%j is refused", async (argv, message) => {
  const { status, stdout, stderr } = await firectl(argv);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toBe(`firectl: ${message}\nhint: firectl --help lists the commands\n`);
});

test.each([
  [
    ["build", "-t", "x", "."],
    "build",
    "images are made elsewhere: docker build, then firectl run docker:NAME",
  ],
  [["container", "create", "x"], "container create", "firectl run -d makes a VM and starts it"],
  [["help", "image", "push"], "image push", "firectl save IMAGE | docker load, then docker push IMAGE"],
  [
    ["network", "ls"],
    "network",
    "no network is shared by VMs: firectl run --network user, -p publishes ports",
  ],
])("docker's %j is told what to do instead", async (argv, name, instead) => {
  const result = await firectl(argv);
  const stderr = `firectl: firectl has no command "${name}"\nhint: ${instead}\n`;
  expect(result).toEqual({ status: 2, stdout: "", stderr });
});
