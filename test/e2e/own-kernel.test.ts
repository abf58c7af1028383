import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, KERNEL, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";
import { expectSystemd } from "./support/systemd.ts";

/** Emulated, Docker alone takes a minute to start. */
const TIMEOUT = 15 * 60_000;
const IMAGE = `oci:${IMAGES}/workloads`;
/** Machines for such work. */
const MACHINE = ["-m", "2g", "--vmm", anyBackend()];

/** As docker's own image for Docker in Docker does: with control groups of its own, none in the root of them. */
const DOCKER_IN_VM = `set -e
mkdir -p /sys/fs/cgroup/init
xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs || :
sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
dockerd >/tmp/dockerd.log 2>&1 &
for _ in $(seq 600); do docker version >/dev/null 2>&1 && break; sleep 0.5; done
docker info --format 'storage {{.Driver}}, cgroups {{.CgroupVersion}}' || { cat /tmp/dockerd.log; exit 1; }
mkdir -p /tmp/root/bin && cp /bin/busybox /tmp/root/bin && tar -C /tmp/root -c . | docker import - box >/dev/null
docker run --rm -m 64m --cpus 0.5 --pids-limit 50 -p 8080:80 box /bin/busybox sh -c \\
  'echo "in a container: $(cat /proc/1/comm)"; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
docker network create --ipv6 --subnet fd00:1::/64 six >/dev/null
docker run --rm --network six box /bin/busybox ip -6 addr show eth0 | grep -c fd00:1::`;

const POSTGRESQL = `set -e
pg() { su postgres -c "/usr/lib/postgresql/*/bin/$*"; }
mkdir /tmp/db && chown postgres /tmp/db
pg "initdb -D /tmp/db" >/dev/null
pg "pg_ctl -D /tmp/db -w -t 300 -l /tmp/db/log -o '-k /tmp' start" >/dev/null
su postgres -c "pgbench -h /tmp -i -q postgres && pgbench -h /tmp -t 50 -c 2 postgres" 2>&1 | grep 'actually processed'
pg "pg_ctl -D /tmp/db -m fast -w stop" >/dev/null`;

const C_PROJECT = `set -e
mkdir /tmp/project && cd /tmp/project
for n in $(seq 40); do
  printf '#include "all.h"\\nlong part%d(long x) { return x * %d + strlen("part"); }\\n' $n $n >part$n.c
  echo "long part$n(long);" >>decls
done
{ echo '#include <string.h>'; echo '#include <stdio.h>'; cat decls; } >all.h
{ echo '#include "all.h"'; echo 'int main(void) { long sum = 0;'
  for n in $(seq 40); do echo "sum += part$n(1);"; done
  echo 'printf("sum %ld\\n", sum); return 0; }'; } >main.c
printf 'program: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\t$(CC) -o $@ $^\\n%%.o: %%.c all.h\\n\\t$(CC) -O2 -c $<\\n' >Makefile
make -s -j2 program && ./program`;

/** Classes of stressors that ask the kernel for much and harm nothing. */
const CLASSES = ["cpu", "memory", "pipe", "scheduler", "vm"];

describe.skipIf(KERNEL === undefined)("what asks much of a kernel (FIRECTL_E2E_KERNEL)", () => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    await run(path.resolve(import.meta.dirname, "../images/make-images.sh"), [IMAGES, "workloads"]);
    sandbox = await Sandbox.create();
  }, TIMEOUT);
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const inVm = (flags: readonly string[], script: string) =>
    sandbox.ok(["run", "--rm", "-q", ...MACHINE, ...flags, IMAGE, "/bin/bash", "-c", script]);

  test("Docker Engine: containers with limits, ports and IPv6", { timeout: TIMEOUT }, async () => {
    const said = await inVm(["--privileged", "--volume", "docker:/var/lib/docker"], DOCKER_IN_VM);
    expect(said).toBe("storage overlay2, cgroups 2\nin a container: busybox\n67108864\n50\n1\n");
    await sandbox.ok(["volume", "rm", "docker"]);
  });

  test("systemd as the image's init", { timeout: TIMEOUT }, async () => {
    await sandbox.ok(["run", "-d", "-q", "--name", "system", ...MACHINE, IMAGE, "/sbin/init"]);
    await expectSystemd(sandbox, "system");
    await sandbox.ok(["stop", "system"]);
  });

  test("PostgreSQL", { timeout: TIMEOUT }, async () => {
    expect(await inVm([], POSTGRESQL)).toContain("100/100");
  });

  test("a build of a C project", { timeout: TIMEOUT }, async () => {
    expect(await inVm(["--cpus", "1"], C_PROJECT)).toBe(`sum ${820 + 40 * 4}\n`);
  });

  test.each(CLASSES)("stress-ng's class %s", { timeout: TIMEOUT }, async (name) => {
    // Of an emulated processor's caches Firecracker makes some without a kind, at which stress-ng 0.15 crashes.
    const caches = "/sys/devices/system/cpu/cpu0/cache";
    const hide = `! [ -e ${caches}/index0 ] || cat ${caches}/index0/type || mount -t tmpfs none ${caches}`;
    const stress = `stress-ng --class ${name} --sequential 1 --timeout 1s --temp-path /tmp --log-brief 2>&1`;
    const said = await inVm(["--privileged"], `${hide}\n${stress} | grep -E '(un)?successful run'`);
    expect(said).toMatch(/^successful run completed/m);
  });
});
