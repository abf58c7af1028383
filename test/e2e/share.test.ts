import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { chmod, cp, lstat, mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox, SHARED_DATA } from "./support/firectl.ts";
import { PYTHON } from "./support/pseudo-terminal.ts";
import { run } from "./support/run.ts";

/** How long a guest may believe what it was told, and then some for emulation. */
const STALE_MS = 1500;

/** Number of copy_file_range(2): asm/unistd.h. */
const COPY_FILE_RANGE = process.arch === "arm64" ? 285 : 326;

/** Asks for the version of Landlock's interface, landlock_create_ruleset(2), by number on all architectures. */
function hasLandlock(): boolean {
  if (PYTHON === undefined) return false;
  const ask = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)";
  return spawnSync(PYTHON, ["-c", ask]).status === 0;
}

onEveryBackend("a directory of the host, live", (vmm) => {
  let sandbox: Sandbox;
  let shared: string;
  let readOnly: string;
  const inGuest = (script: string, ...flags: string[]): Promise<string> =>
    sandbox.ok(["exec", ...flags, "share", "/bin/sh", "-c", `cd /w && ${script}`]);

  beforeAll(async () => {
    sandbox = await Sandbox.create();
    shared = path.join(sandbox.directory, "shared");
    readOnly = path.join(sandbox.directory, "read-only");
    await Promise.all([mkdir(shared), mkdir(readOnly)]);
    await writeFile(path.join(sandbox.directory, "file"), "one\n");
    await writeFile(path.join(readOnly, "a"), "host\n");
    await sandbox.ok([
      ...["run", "-d", "--name", "share", "--vmm", vmm, "-v", `${shared}:/w`],
      ...["-v", `${readOnly}:/r:ro,live`, "-v", `${sandbox.directory}/file:/etc/single`],
      ...["--mount", `type=bind,src=${shared},dst=/other,uid=1234,gid=2345`],
      ...[`oci:${IMAGES}/tools`, "/bin/sh", "-c", "while :; do sleep 1000; done"],
    ]);
  });
  afterAll(async () => {
    await sandbox.call(["rm", "-f", "share"]);
    await sandbox.closeEmpty();
  });

  test("each side sees what the other writes", async () => {
    await writeFile(path.join(shared, "from-host"), "host\n");
    expect(
      await inGuest("cat from-host && echo guest >from-guest && mkdir -p a/b && mv from-guest a/b"),
    ).toBe("host\n");
    expect(await readFile(path.join(shared, "a/b/from-guest"), "utf8")).toBe("guest\n");
    await rename(path.join(shared, "a"), path.join(shared, "moved"));
    await writeFile(path.join(shared, "moved/b/from-guest"), "changed by the host\n");
    await sleep(STALE_MS);
    expect(await inGuest("ls; cat moved/b/from-guest")).toBe("from-host\nmoved\nchanged by the host\n");
  });

  test("a single file is itself, and its directory is not there", async () => {
    expect(await inGuest("cat /etc/single && echo two >/etc/single && ls -d /etc/passwd")).toBe(
      "one\n/etc/passwd\n",
    );
    expect(readFileSync(path.join(sandbox.directory, "file"), "utf8")).toBe("two\n");
  });

  test("a live read-only directory follows the host and refuses everything else", async () => {
    expect(
      await inGuest("cat /r/a; for c in 'touch /r/b' 'rm /r/a' 'chmod 777 /r/a'; do $c; done 2>&1; true"),
    ).toMatch(/^host\n(.*Read-only file system\n){3}$/);
    // Even where the guest's own mount would allow it.
    expect(await inGuest("mount -o remount,rw /r 2>&1 || echo refused")).toContain("refused");
    await writeFile(path.join(readOnly, "a"), "new\n");
    await sleep(STALE_MS);
    expect(await inGuest("cat /r/a")).toBe("new\n");
  });

  test("the user's files are the workload's user's; given owners are kept", async () => {
    const script = `echo x >mine; stat -c %u:%g mine /other/mine; chown 7:8 mine; sleep 2; stat -c %u:%g mine /other/mine`;
    // Root gives files away for good; then the other share, whose user is root, has them as nobody's.
    const given = process.getuid?.() === 0 ? "7:8\n65534:65534\n" : "7:8\n7:8\n";
    expect(await inGuest(script)).toBe(`0:0\n1234:2345\n${given}`);
    const { uid } = await stat(path.join(shared, "mine"));
    expect(uid).toBe(process.getuid?.() === 0 ? 7 : process.getuid?.());
  });

  test("links are kept and lead nowhere on the host", async () => {
    await symlink("/etc/hostname", path.join(shared, "absolute"));
    await symlink(`${sandbox.directory}/file`, path.join(shared, "outside"));
    expect(
      await inGuest(
        "cat absolute /etc/hostname | uniq | wc -l; cat outside 2>&1; ln -s ../../x up; ls -l up",
      ),
    ).toMatch(/^1\ncat: outside: No such file or directory\n.* up -> \.\.\/\.\.\/x\n$/);
    expect((await lstat(path.join(shared, "up"))).isSymbolicLink()).toBe(true);
  });

  test("POSIX as far as it goes", async () => {
    const script = `
      echo 1 >f && ln f g && stat -c %h f && rm f && cat g
      exec 3>open; rm open; echo still >&3; cat /proc/self/fd/3; exec 3>&-
      touch -d '2001-02-03T04:05:06.123456789Z' g && TZ=UTC stat -c %y g
      truncate -s 1G sparse && fallocate -o 512M -l 1M sparse && stat -c %s sparse
      printf x | dd of=sparse bs=1 seek=512M conv=notrunc status=none
      perl -e 'open(S, "<", "sparse"); print sysseek(S, 0, 3), "\\n"'
      mkdir s && chmod 2751 s g && stat -c %a s g && rmdir s
      mkdir d && touch d/x && rmdir d 2>&1; mv -T d e && ls e
      echo one >>log; echo two >>log; cat log
      perl -e 'open(I, "<", "log"); open(O, ">", "part"); print syscall(${COPY_FILE_RANGE}, fileno I, 0, fileno O, 0, 7, 0), "\\n"'; cat part
      mkfifo p && (echo through >p &) && cat p
      flock log -c 'echo locked'
      mknod c c 1 3 2>&1 || true`;
    expect(await inGuest(script)).toBe(
      [
        ...["2", "1", "still", "2001-02-03 04:05:06.123456789 +0000", "1073741824", "536870912", "2751"],
        // A file of the host gets no set-id bits.
        ...["751"],
        ...["rmdir: failed to remove 'd': Directory not empty", "x", "one", "two", "7", "one"],
        ...["twothrough", "locked"],
        "mknod: c: Operation not permitted\n",
      ].join("\n"),
    );
    const { mtimeNs } = await stat(path.join(shared, "g"), { bigint: true });
    expect(mtimeNs).toBe(981_173_106_123_456_789n);
  });

  test("the files of a shared /etc stay the user's, whatever the VM has in their place", async () => {
    const etc = path.join(sandbox.directory, "etc");
    await mkdir(etc);
    await writeFile(path.join(etc, "hosts"), "the user's\n");
    await symlink("/run/resolv.conf", path.join(etc, "resolv.conf"));
    const seen = await sandbox.ok([
      ...["run", "--rm", "--vmm", vmm, "--hostname", "covered", "-v", `${etc}:/etc`],
      ...[
        `oci:${IMAGES}/tools`,
        "/bin/sh",
        "-c",
        "cat /etc/hostname /etc/resolv.conf /etc/hosts; echo x >>/etc/hosts",
      ],
    ]);
    expect(seen).toMatch(/^covered\n.*localhost.*\tcovered\n$/s);
    expect(await readFile(path.join(etc, "hosts"), "utf8")).toBe("the user's\n");
    expect((await lstat(path.join(etc, "resolv.conf"))).isSymbolicLink()).toBe(true);
    // As docker leaves it, which needs something to mount on.
    expect(await readFile(path.join(etc, "hostname"), "utf8")).toBe("");
  });

  test("what builds do: tar, make, git, sqlite", async () => {
    const script = `
      mkdir src build && for i in $(seq 100); do echo "file $i" >src/$i.txt; done
      tar cf src.tar src && mkdir copy && tar xf src.tar -C copy && diff -r src copy/src && echo untarred
      printf 'all: build/a build/b\\nbuild/%%: src/1.txt\\n\\tcp $< $@\\n' >Makefile
      make -s -j2 && make -q && ls build
      export HOME=/tmp; git config --global user.email a@b && git config --global user.name n
      git init -q repo && cp -r src repo && cd repo && git add . && git commit -qm one && git status --short
      git clone -q . ../clone && git -C ../clone fsck && git -C ../clone log --format=%s && cd ..
      sqlite3 db 'pragma journal_mode=wal; create table t(a); insert into t values(1),(2); select sum(a) from t'
      rm -rf src copy build repo clone src.tar Makefile db*`;
    expect(await inGuest(script)).toBe("untarred\na\nb\none\nwal\n3\n");
  });

  test("many files, large files and mapped ones come through whole", async () => {
    await run("dd", ["if=/dev/urandom", `of=${shared}/random`, "bs=1M", "count=16", "status=none"]);
    const sum = (await run("sha256sum", [`${shared}/random`])).split(" ")[0];
    expect(await inGuest("sha256sum <random && cp random again && sync")).toContain(sum);
    expect((await run("sha256sum", [`${shared}/again`])).split(" ")[0]).toBe(sum);
    const names = await inGuest(
      "mkdir many && cd many && seq 1000 | xargs touch && ls | wc -l && rm -r ../many",
    );
    expect(names).toBe("1000\n");
  });

  test.skipIf(!hasLandlock())(
    "what the host moves out of it is shut to who was in it (needs Landlock)",
    async () => {
      await inGuest("mkdir inner && echo secret >inner/file");
      const script =
        "cd inner; touch /w/in; while [ ! -e /w/go ]; do sleep 0.1; done; cat file 2>&1; echo end";
      const held = sandbox.start(["exec", "-w", "/w", "share", "/bin/sh", "-c", script]);
      await expect.poll(() => existsSync(path.join(shared, "in")), { timeout: 60_000 }).toBe(true);
      await rename(path.join(shared, "inner"), path.join(sandbox.directory, "moved-out"));
      await writeFile(path.join(shared, "go"), "");
      expect((await held.finished).stdout).toBe("cat: file: Permission denied\nend\n");
      await Promise.all(["in", "go"].map((name) => rm(path.join(shared, name))));
    },
  );

  test("a workload cannot reach the server", async () => {
    const runtime = path.join(sandbox.runtime, String(sandbox.records()[0]?.["id"]));
    expect(existsSync(path.join(runtime, "v.sock_1100"))).toBe(false);
  });

  test("stop and start keep it", async () => {
    await sandbox.ok(["stop", "--keep", "share"]);
    await writeFile(path.join(shared, "from-host"), "meanwhile\n");
    await sandbox.ok(["start", "share"]);
    expect(await inGuest("cat from-host")).toBe("meanwhile\n");
  });

  test("a directory that another guest has replaced by a link is not shared", async () => {
    await mkdir(path.join(shared, "data"));
    await writeFile(path.join(shared, "data/file"), "data\n");
    const flags = ["--name", "inner", "--vmm", vmm, "-v", `${shared}/data:/d`, `oci:${IMAGES}/tools`];
    const inner = ["/bin/sh", "-c", "cat /d/*"];
    expect(await sandbox.ok(["run", "-q", ...flags, ...inner])).toBe("data\n");
    await inGuest(`mv data aside && ln -s ${readOnly} data`);
    const refused = await sandbox.call(["start", "-a", "inner"]);
    expect(refused).toMatchObject({
      status: 125,
      stdout: "",
      stderr: expect.stringContaining(`${shared}/data has become a symbolic link since the VM was made`),
    });
    await inGuest("rm data && mv aside data");
    expect((await sandbox.call(["start", "-a", "inner"])).stdout).toBe("data\n");
    await sandbox.ok(["rm", "inner"]);
  });

  test("without its server the guest gets errors and no hang", async () => {
    const pids = (sandbox.records()[0]?.["companions"] ?? []) as ReadonlyArray<{ pid: number }>;
    const servers = pids.filter(({ pid }) =>
      // The supervisor has their words among its own.
      /^[^\0]*firectl-share\0/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")),
    );
    expect(servers).toHaveLength(4);
    for (const { pid } of servers) process.kill(pid, "SIGKILL");
    const script = "sleep 1; ls /w 2>&1; cat /etc/single 2>&1; echo alive";
    const told = await sandbox.ok(["exec", "share", "/bin/sh", "-c", script]);
    expect(told).toMatch(/(not connected|Software caused connection abort|Input\/output)[\s\S]*alive\n$/);
    writeFileSync(path.join(shared, "still-the-hosts"), "");
  });

  test.each(["vmm", "supervisor"])(
    "when the %s is killed, one more command leaves nothing",
    async (victim) => {
      await using other = await Sandbox.create();
      const directory = path.join(other.directory, "shared");
      await mkdir(directory);
      await other.ok([
        ...["run", "-d", "--rm", "--vmm", vmm, "-v", `${directory}:/w`, `oci:${IMAGES}/app`],
        ...["sleep", "1000"],
      ]);
      const record = other.records()[0] as { id: string; firecrackerPid: number };
      const noted = readFileSync(path.join(other.runtime, record.id, "supervisor.pid"), "utf8");
      process.kill(victim === "vmm" ? record.firecrackerPid : Number(noted.split(" ")[0]), "SIGKILL");
      if (victim === "supervisor") process.kill(record.firecrackerPid, "SIGKILL");
      await other.call(["list", "-a"]);
      await other.expectNothingLeft();
    },
  );

  test.skipIf(process.getuid?.() !== 0)("an unprivileged user shares what is theirs", async () => {
    const uid = 61_234;
    await using other = await Sandbox.create();
    const directory = path.join(other.directory, "shared");
    await mkdir(directory);
    // A user has kernels and images of their own.
    for (const name of ["kernels", "initramfs"]) {
      await rm(path.join(other.data, name));
      await cp(path.join(SHARED_DATA, name), path.join(other.data, name), { recursive: true });
    }
    await writeFile(path.join(directory, "theirs"), "");
    const image = path.join(other.directory, "image");
    await cp(`${IMAGES}/app`, image, { recursive: true });
    await run("chown", ["-R", `${uid}:${uid}`, other.directory]);
    await chmod(other.directory, 0o755);
    await writeFile(path.join(directory, "roots"), "secret", { mode: 0o600 });
    const script = `id -u; stat -c %u:%g theirs roots; echo mine >made; chown 33:33 made; stat -c %u:%g made
      cat roots 2>&1; touch /w/kept`;
    const env = { ...other.env, HOME: other.directory };
    // As `usermod -aG kvm` makes it, where there is KVM.
    const kvm = await stat("/dev/kvm").catch(() => undefined);
    const groups = kvm === undefined ? ["--clear-groups"] : ["--groups", String(kvm.gid)];
    const told = await run(
      "setpriv",
      [
        ...["--reuid", String(uid), "--regid", String(uid), ...groups, BIN],
        ...["run", "--rm", "--vmm", vmm, "-u", "1234:2345", "-v", `${directory}:/w`, "-w", "/w"],
        ...[`oci:${image}`, "sh", "-c", script],
      ],
      { env },
    );
    expect(told).toContain("1234\n1234:2345\n65534:65534\n");
    expect(told).toMatch(/cat: can't open 'roots': Permission denied/);
    const made = await stat(path.join(directory, "made"));
    expect([made.uid, made.gid]).toEqual([uid, uid]);
    await other.expectNothingLeft();
  });
});
