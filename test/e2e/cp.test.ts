import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { machine, onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

/** What both sides have: S is copied from, a T of its own for each case is copied to. */
const SOURCE =
  "mkdir -p S/dir/sub; echo f > S/file; echo a > S/dir/a; echo b > S/dir/sub/b; ln -s file S/link; ln -s dir S/dlink";
const TARGET = (name: string) =>
  `mkdir -p ${name}/dir; echo old > ${name}/file; ln -s dir ${name}/dlink; ln -s file ${name}/flink`;

/** Docker's table, and what it says nothing of: source below S, destination below T, flags. */
const CASES: ReadonlyArray<readonly [source: string, destination: string, ...flags: string[]]> = [
  ["file", "new"],
  ["file", "new/"],
  ["file", "none/new"],
  ["file", "file"],
  ["file", "dir/."],
  ["file", "dir"],
  ["file", "dir/"],
  ["file", "dlink/"],
  ["file", "file/"],
  ["dir", "new"],
  ["dir", "new/"],
  ["dir", "file"],
  ["dir", "dir"],
  ["dir/", "dir"],
  ["dir", "dlink/"],
  ["dir/.", "dir"],
  ["dir/.", "new"],
  ["dir/sub/..", "dir"],
  ["link", "new"],
  ["link", "dir"],
  ["link", "dir", "-L"],
  ["dlink", "dir"],
  ["dlink/", "dir"],
  ["dlink", "new", "-L"],
  ["dlink/.", "dir"],
  ["nothing", "dir"],
];

/** Every file below a directory: what it is, and what is in it. */
function treeOf(directory: string, below = ""): string[] {
  return readdirSync(path.join(directory, below))
    .sort()
    .flatMap((name) => {
      const file = path.join(below, name);
      const stats = lstatSync(path.join(directory, file));
      if (stats.isSymbolicLink()) return [`${file} -> ${readlinkSync(path.join(directory, file))}`];
      if (stats.isDirectory()) return [`${file}/`, ...treeOf(directory, file)];
      return [`${file}: ${readFileSync(path.join(directory, file), "utf8").trim()}`];
    });
}

onEveryBackend("firectl cp", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  /** Not path.join, which takes the dot of `dir/.` away. */
  const local = (...names: string[]) => [sandbox.directory, ...names].join("/");
  const inGuest = (name: string, script: string) => sandbox.ok(["exec", name, "/bin/sh", "-c", script]);
  const start = (name: string, ...flags: string[]) =>
    sandbox.ok([
      ...["run", "-d", "--name", name, "--vmm", vmm, ...flags, `oci:${IMAGES}/layers`],
      ...["/bin/sh", "-c", "while :; do sleep 1000; done"],
    ]);
  const shell = (script: string, cwd: string) => run("/bin/sh", ["-c", script], { env: sandbox.env, cwd });

  test("goes where docker's would go, both ways", async () => {
    const all = [SOURCE, ...CASES.map((_, index) => TARGET(`T${index}`))].join("; ");
    await start("rules");
    await inGuest("rules", `mkdir /w; cd /w; ${all}`);
    for (const side of ["ours", "theirs"]) {
      await mkdir(local(side));
      await shell(all, local(side));
    }
    const docker = machine().dockerHost;
    const container = docker === undefined ? undefined : `rules-${process.pid}`;
    const dockerArgs = (...args: string[]) => ["-H", docker ?? "", ...args];
    try {
      if (container !== undefined) {
        await shell(`tar -c S T* | docker -H ${docker} import - rules`, local("theirs"));
        await run("docker", dockerArgs("create", "--name", container, "rules", "/none"));
      }
      const refused: number[] = [];
      for (const [index, [source, destination, ...flags]] of CASES.entries()) {
        const [from, to] = [`S/${source}`, `T${index}/${destination}`];
        const into = await sandbox.call(["cp", ...flags, local("ours", from), `rules:/w/${to}`]);
        const out = await sandbox.call(["cp", ...flags, `rules:/w/${from}`, local("ours", to)]);
        expect(out.status === 0, `${from} ${to}: ${into.stderr}${out.stderr}`).toBe(into.status === 0);
        if (into.status !== 0) refused.push(index);
        if (container === undefined) continue;
        const theirs = async (a: string, b: string) =>
          run("docker", dockerArgs("cp", ...flags, a, b)).then(
            () => true,
            () => false,
          );
        const succeeded = [
          await theirs(local("theirs", from), `${container}:/${to}`),
          await theirs(`${container}:/${from}`, local("theirs", to)),
        ];
        expect(succeeded, `docker cp ${flags.join(" ")} ${from} ${to}`).toEqual([
          into.status === 0,
          out.status === 0,
        ]);
      }
      expect(refused.map((index) => CASES[index]?.slice(0, 2).join(" "))).toEqual([
        "file new/",
        "file none/new",
        "file file/",
        "dir file",
        "nothing dir",
      ]);
      await mkdir(local("guest"));
      await shell(`'${BIN}' cp rules:/w/. - | tar -x -C '${local("guest")}'`, local());
      const ours = treeOf(local("ours"));
      expect(treeOf(local("guest"))).toEqual(ours);
      expect(ours).toEqual(
        expect.arrayContaining(["T0/new: f", "T12/dir/dir/sub/b: b", "T15/dir/a: a", "T20/dir/link: f"]),
      );
      if (container !== undefined) {
        expect(treeOf(local("theirs"))).toEqual(ours);
        await mkdir(local("container"));
        await shell(
          `docker -H ${docker} export ${container} | tar -x -C ${local("container")} S T*`,
          local("theirs"),
        );
        expect(treeOf(local("container"))).toEqual(ours);
      }
    } finally {
      if (container !== undefined) {
        await run("docker", dockerArgs("rm", "-f", container)).catch(() => {});
        await run("docker", dockerArgs("rmi", "rules")).catch(() => {});
      }
    }
    await sandbox.ok(["rm", "-f", "rules"]);
  });

  test("keeps modes, links, holes and times; owners only with -a; running and stopped alike", async () => {
    await start("exact");
    await inGuest(
      "exact",
      `mkdir -p /x/d; echo guest >/etc/passwd; echo one > /x/f; ln /x/f /x/h; ln -s /etc/passwd /x/l; mkfifo /x/p; mknod /x/n c 1 3
       truncate -s 1G /x/holes; echo tail >> /x/holes; chown 5:6 /x/f; chmod 4751 /x/f; chmod 1777 /x/d
       touch -d '2011-11-11 11:11:11' /x/f /x/d; head -c 3000000 /dev/urandom > /x/random; md5sum < /x/random > /x/sum; sync`,
    );
    const check = async (name: string) => {
      const copied = await sandbox.call(["cp", "exact:/x", local(name)]);
      expect(copied).toMatchObject({ status: 1, stderr: expect.stringContaining("/n is a device") });
      const stat = (file: string) => lstatSync(local(name, file));
      // What a guest calls setuid is nobody's program here.
      expect(stat("f").mode & 0o7777).toBe(0o751);
      expect(stat("f").uid).toBe(process.getuid?.());
      expect(stat("h").ino).toBe(stat("f").ino);
      expect(readlinkSync(local(name, "l"))).toBe("/etc/passwd");
      expect(stat("p").isFIFO()).toBe(true);
      expect(stat("d").mode & 0o7777).toBe(0o1777);
      expect([stat("f").mtimeMs, stat("d").mtimeMs]).toEqual([1_321_009_871_000, 1_321_009_871_000]);
      expect(stat("holes").size).toBe(2 ** 30 + 5);
      expect(stat("holes").blocks).toBeLessThan(1000);
      expect(await shell("md5sum < random; cat sum", local(name))).toMatch(/^(\S+) {2}-\n\1 {2}-\n$/);
    };
    await check("running");
    if (process.getuid?.() === 0) {
      await sandbox.call(["cp", "-a", "exact:/x/f", local("kept")]);
      expect(statSync(local("kept"))).toMatchObject({ uid: 5, gid: 6, mode: 0o104751 });
      await sandbox.ok(["cp", "-a", local("kept"), "exact:/kept"]);
      expect(await inGuest("exact", "stat -c '%u:%g %a' /kept")).toBe("5:6 4751\n");
    }
    await sandbox.ok(["cp", local("running"), "exact:/back"]);
    expect(
      await inGuest(
        "exact",
        "cd /back; stat -c '%n %u:%g %a %h' d f h; du -k holes | cut -f1; cmp holes /x/holes && cmp random /x/random && echo same; readlink l",
      ),
    ).toBe("d 0:0 1777 2\nf 0:0 751 2\nh 0:0 751 2\n4\nsame\n/etc/passwd\n");

    await sandbox.ok(["stop", "--keep", "-t", "1", "exact"]);
    await check("stopped");
    expect((await sandbox.call(["cp", "exact:/x/l", local("as-link")])).status).toBe(0);
    expect(readlinkSync(local("as-link"))).toBe("/etc/passwd");
    // A link of the guest's leads to the guest's own files.
    await sandbox.ok(["cp", "-L", "exact:/x/l", local("followed")]);
    expect(readFileSync(local("followed"), "utf8")).not.toBe(readFileSync("/etc/passwd", "utf8"));

    // Into a VM that does not run: what is copied is there for the next copy and the next start.
    const before = sandbox.records().find((record) => record["name"] === "exact");
    await writeFile(local("late"), "late");
    await sandbox.ok(["cp", local("late"), "exact:/x/"]);
    expect(sandbox.records().find((record) => record["name"] === "exact")).toEqual(before);
    await sandbox.ok(["cp", "exact:/x/late", local("late-again")]);
    expect(readFileSync(local("late-again"), "utf8")).toBe("late");
    await sandbox.ok(["start", "exact"]);
    expect(await inGuest("exact", "cat /x/late; cat /x/f")).toBe("lateone\n");
    await sandbox.ok(["rm", "-f", "exact"]);
  });

  test("is told by no link or archive to go elsewhere", async () => {
    await start("hostile", "--tmpfs", "/ram");
    await inGuest(
      "hostile",
      "ln -s / /up; ln -s ../../../../../../../../tmp /far; mkdir /h; ln -s /tmp /h/l; echo mine > /h/f",
    );
    // A path that leads out is the guest's own.
    expect(
      await sandbox.call(["cp", "hostile:/up/far/../../../etc/shadow-of-host", local("no")]),
    ).toMatchObject({ status: 3 });
    await sandbox.ok(["cp", "hostile:/proc/self/../version", local("version")]).catch(() => {});
    await mkdir(local("own", "h"), { recursive: true });
    await mkdir(local("outside"));
    // The user's link in the destination is replaced, what it leads to stays.
    await writeFile(local("outside", "f"), "untouched");
    await symlink(local("outside", "f"), local("own", "h", "f"));
    await sandbox.ok(["cp", "hostile:/h", local("own")]);
    expect(readFileSync(local("outside", "f"), "utf8")).toBe("untouched");
    expect(treeOf(local("own"))).toEqual(["h/", "h/f: mine", "h/l -> /tmp"]);
    // A directory may not come through a link.
    await rm(local("own"), { recursive: true });
    await mkdir(local("own"));
    await symlink(local("outside"), local("own", "h"));
    expect(await sandbox.call(["cp", "hostile:/h", local("own")])).toMatchObject({ status: 4 });
    expect(treeOf(local("outside"))).toEqual(["f: untouched"]);

    // A link that the last copy has brought: the same copy again replaces it, and never goes through it.
    await inGuest("hostile", "ln -s ../outside/f /planted; ln -s ../outside /planted-directory");
    for (const name of ["planted", "planted-directory"]) {
      await sandbox.ok(["cp", `hostile:/${name}`, local("own", name)]);
      await inGuest("hostile", `rm /${name}; echo evil > /${name}`);
    }
    await sandbox.ok(["cp", "hostile:/planted", local("own", "planted")]);
    expect(
      await sandbox.call(["cp", "hostile:/planted-directory", local("own", "planted-directory")]),
    ).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("is a symbolic link to the directory ../outside"),
    });
    expect(treeOf(local("outside"))).toEqual(["f: untouched"]);
    expect(readFileSync(local("own", "planted"), "utf8")).toBe("evil\n");
    // A guest's own links lead to the guest's own files.
    await inGuest("hostile", "ln -s h/f /flink; ln -s h /dlink");
    await sandbox.ok(["cp", local("outside", "f"), "hostile:/flink"]);
    await sandbox.ok(["cp", local("own", "planted"), "hostile:/dlink"]);
    expect(await inGuest("hostile", "cat /h/f /h/planted; readlink /flink; readlink /dlink")).toBe(
      "untouchedevil\nh/f\nh\n",
    );

    // Archives that lead out of where they are extracted; and one that does not.
    const pipe = (script: string, to: string) =>
      shell(`${script} | '${BIN}' cp - hostile:${to} 2>&1 || true`, local());
    await writeFile(local("plain"), "plain");
    expect(await pipe("tar -c --transform='s,^,../,' plain", "/h")).toMatch(/leads out of it/);
    await symlink("/etc", local("etc"));
    expect(
      await pipe("{ tar -c etc; } | head -c 512 | { cat; tar -c --transform='s,^,etc/,' plain; }", "/h"),
    ).toMatch(/through a link that the same copy has made/);
    expect(await inGuest("hostile", "ls /etc/plain 2>&1 || true")).toMatch(/No such file/);
    expect(await pipe("tar -c plain | gzip", "/ram")).toBe("");
    expect(await inGuest("hostile", "cat /ram/plain")).toBe("plain");
    await sandbox.ok(["rm", "-f", "hostile"]);
  });

  test("leaves nothing half done when it is interrupted", async () => {
    await start("cut");
    await inGuest("cut", "mkdir /big; head -c 200000000 /dev/zero | tr '\\0' x > /big/file");
    await mkdir(local("cut"));
    const out = sandbox.start(["cp", "cut:/big/file", local("cut", "file")]);
    while (readdirSync(local("cut")).length === 0) await sleep(5);
    out.kill("SIGINT");
    expect((await out.finished).status).toBe(130);
    expect(readdirSync(local("cut"))).toEqual([]);
    await shell("echo small > small; head -c 300000000 /dev/zero | tr '\\0' y > big", local());
    const into = sandbox.start(["cp", local("big"), "cut:/big/other"]);
    await sleep(600);
    into.kill("SIGINT");
    await into.finished;
    if (vmm === "firecracker") {
      // The helper finds out by itself.
      const left = () => inGuest("cut", "ls -A /big");
      await expect.poll(left, { timeout: 120_000, interval: 500 }).toMatch(/^file\n(other\n)?$/);
    } else {
      // vhost-device-vsock may never tell the guest that the connection is gone: then the next copy clears up.
      await sandbox.ok(["cp", local("small"), "cut:/big/small"]);
      expect(await inGuest("cut", "ls -A /big")).toMatch(/^file\n(other\n)?small\n$/);
    }
    await sandbox.ok(["rm", "-f", "cut"]);
  });

  test("says what is wrong", async () => {
    const [both, neither] = [
      await sandbox.call(["cp", "a:/x", "b:/y"]),
      await sandbox.call(["cp", "./a:x", "/b"]),
    ];
    expect(both).toMatchObject({ status: 2, stderr: expect.stringContaining("between VMs") });
    expect(neither).toMatchObject({ status: 2, stderr: expect.stringContaining("VM:PATH") });
    expect(await sandbox.call(["cp", "nobody:/x", "."])).toMatchObject({ status: 3 });
  });
});
