import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const IMAGE = `oci:${IMAGES}/layers`;

onEveryBackend("volumes", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(() => sandbox.closeEmpty());

  const inVm = (flags: readonly string[], script: string): Promise<string> =>
    sandbox.ok(["run", "--rm", "-q", "--vmm", vmm, ...flags, IMAGE, "/bin/sh", "-c", script]);
  const volumeFiles = (): string[] => {
    const directory = path.join(sandbox.data, "volumes");
    return existsSync(directory) ? readdirSync(directory) : [];
  };
  const anonymous = async (): Promise<number> =>
    (await sandbox.ok(["volume", "ls", "-q"])).split("\n").filter((name) => name.length === 64).length;
  const disk = (name: string): string => path.join(sandbox.data, "volumes", name, "disk.ext4");

  test("an empty volume is filled from the image and outlives its VM", async () => {
    const first = await inVm(["-v", "keep:/keep"], "cat /keep/kept; echo mine >/keep/mine; stat -c %a /keep");
    expect(first).toBe("kept\n755\n");
    await run("e2fsck", ["-fn", disk("keep")]);
    const second = await inVm(
      ["--mount", "type=volume,src=keep,dst=/data,readonly"],
      "cat /data/kept /data/mine; touch /data/x 2>&1; grep ' /data ' /proc/mounts | sed s/vd./vdX/",
    );
    expect(second).toBe(
      "kept\nmine\ntouch: /data/x: Read-only file system\n/dev/vdX /data ext4 ro,relatime 0 0\n",
    );
  });

  test("what the image has is copied exactly, unless nocopy is said", async () => {
    const list = "cd /data; stat -c '%n %a %u %g %h %s %F' *; wc -c <sparse; stat -c %b sparse";
    const there = await inVm([], list);
    expect((await inVm(["-v", "exact:/data"], list)).split("\n").slice(0, -2)).toEqual(
      there.split("\n").slice(0, -2),
    );
    expect(await inVm(["-v", "bare:/data:nocopy"], "ls /data")).toBe("");
    expect(await sandbox.ok(["volume", "rm", "exact", "bare"])).toBe("exact\nbare\n");
  });

  test("a volume that a VM writes to is refused to others, and never removed", async () => {
    await sandbox.ok([
      ...["run", "-d", "-q", "--vmm", vmm, "--name", "writer", "-v", "busy:/data:nocopy", IMAGE],
      ...["/bin/sh", "-c", "echo late >/data/late; while :; do sleep 1; done"],
    ]);
    const refused = await sandbox.call(["run", "--rm", "--vmm", vmm, "-v", "busy:/x:ro", IMAGE, "true"]);
    expect(refused).toMatchObject({
      status: 125,
      stderr: expect.stringContaining('the volume "busy" is in use by VM writer, which can write to it'),
    });
    expect(await sandbox.call(["volume", "rm", "busy"])).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('the volume "busy" is in use by writer'),
    });
    expect(await sandbox.ok(["volume", "prune", "-a", "-f", "--filter", "label!=x"])).not.toContain("busy");
    // A VM that is killed loses nothing that its workload has written.
    await sandbox.ok(["rm", "-f", "writer"]);
    expect(await inVm(["-v", "busy:/data"], "cat /data/late")).toBe("late\n");
    await sandbox.ok(["volume", "rm", "busy"]);
  });

  test("start attaches volumes and copies again, and inspect shows them", async () => {
    const source = path.join(sandbox.directory, "source");
    mkdirSync(path.join(source, ".wh.dir"), { recursive: true });
    writeFileSync(path.join(source, "file"), "first\n");
    symlinkSync("file", path.join(source, "link"));
    await sandbox.call([
      ...["run", "-q", "--vmm", vmm, "--name", "again", "-v", "again:/v", "-v", `${source}:/in:ro`, IMAGE],
      ...["/bin/sh", "-c", "cat /in/link; ls -A /in; echo x >>/v/runs; wc -l </v/runs; touch /in/no"],
    ]);
    writeFileSync(path.join(source, "file"), "second\n");
    const again = await sandbox.call(["start", "-a", "again"]);
    expect(again.stdout).toBe("first\n.wh.dir\nfile\nlink\n2\n");
    expect(again.stderr).toContain("touch: /in/no: Read-only file system");
    const mounts = await sandbox.ok(["inspect", "-f", "{{json .Mounts}}", "again"]);
    expect(JSON.parse(mounts)).toMatchObject([
      { Type: "volume", Name: "again", Destination: "/v", Driver: "local", RW: true },
      { Type: "bind", Source: source, Destination: "/in", RW: false },
    ]);
    await sandbox.ok(["rm", "again"]);
    expect(await sandbox.ok(["volume", "ls", "-q"])).toContain("again\n");
  });

  test("anonymous volumes go with rm -v and --rm, and stay otherwise", async () => {
    await inVm(["-v", "/scratch"], "touch /scratch/x");
    expect(await anonymous()).toBe(0);
    for (const [flags, left] of [
      [["rm"], 1],
      [["rm", "-v"], 1],
    ] as const) {
      await sandbox.ok(["run", "-q", "--vmm", vmm, "--name", "anon", "-v", "/a", IMAGE, "true"]);
      await sandbox.ok([...flags, "anon"]);
      expect(await anonymous()).toBe(left);
    }
    expect(await sandbox.ok(["volume", "prune", "-f"])).toMatch(/^Deleted Volumes:\n[0-9a-f]{64}\n/);
    expect(await anonymous()).toBe(0);
  });

  test("an image's VOLUME is filled and goes with the VM; --volumes-from hands it on", async () => {
    const script = ["/bin/sh", "-c", "cat /keep/kept; echo mine >/keep/mine; grep -c ' /keep ' /proc/mounts"];
    const image = `oci:${IMAGES}/volume`;
    expect(await sandbox.ok(["run", "-q", "--vmm", vmm, "--name", "giver", image, ...script])).toBe(
      "kept\n1\n",
    );
    expect(await anonymous()).toBe(1);
    const read = "cat /keep/kept /keep/mine; touch /keep/x 2>&1 || true";
    expect(await inVm(["--volumes-from", "giver:ro"], read)).toBe(
      "kept\nmine\ntouch: /keep/x: Read-only file system\n",
    );
    await inVm(["--volumes-from", "giver"], "echo more >>/keep/mine");
    expect(await inVm(["--volumes-from", "giver"], "cat /keep/mine")).toBe("mine\nmore\n");
    await sandbox.ok(["rm", "-v", "giver"]);
    expect(await anonymous()).toBe(0);
    // A volume that is named takes its place.
    await sandbox.ok(["run", "--rm", "-q", "--vmm", vmm, "-v", "named:/keep", image, ...script]);
    expect(await anonymous()).toBe(0);
    await sandbox.ok(["volume", "rm", "named"]);
  });

  test("a live directory of the host within a volume", async () => {
    const shared = path.join(sandbox.directory, "within");
    mkdirSync(shared);
    writeFileSync(path.join(shared, "file"), "host\n");
    const flags = ["-v", `${shared}:/v/deep/share`, "-v", "outer:/v"];
    expect(await inVm(flags, "cat /v/deep/share/file; echo guest >/v/deep/share/made; ls -A /v")).toBe(
      "host\ndeep\n",
    );
    expect(readFileSync(path.join(shared, "made"), "utf8")).toBe("guest\n");
    expect(await inVm(["-v", "outer:/v"], "ls -A /v/deep/share")).toBe("");
    await sandbox.ok(["volume", "rm", "outer"]);
  });

  test("memory, parents first, in a root that is read-only", async () => {
    const output = await inVm(
      [
        ...["--read-only", "--tmpfs", "/run:size=64k,mode=700", "--shm-size", "1m"],
        ...["-v", "deep:/run/a/b", "--mount", "type=tmpfs,dst=/mem,tmpfs-size=1m,tmpfs-mode=1770"],
      ],
      "touch /run/ok /run/a/b/ok; touch /no 2>&1; stat -c %a /run /mem; grep -e ' /run' -e ' /mem' -e shm /proc/mounts | sed 's/,inode64//;s/vd./vdX/'",
    );
    expect(output).toBe(
      [
        "touch: /no: Read-only file system",
        "700",
        "1770",
        "tmpfs /mem tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770 0 0",
        "tmpfs /run tmpfs rw,nosuid,nodev,noexec,relatime,size=64k,mode=700 0 0",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k 0 0",
        "/dev/vdX /run/a/b ext4 rw,relatime 0 0",
        "",
      ].join("\n"),
    );
  });

  test("a link of the image leads nowhere out of its root", async () => {
    // The image's /long-link is a link to a hundred x's that are not there.
    const mounted = await inVm(["-v", "linked:/long-link"], "grep -o ' /x*x ' /proc/mounts");
    expect(mounted).toBe(` /${"x".repeat(100)} \n`);
    const refused = await sandbox.call(["run", "--rm", "--vmm", vmm, "-v", "linked:/proc/x", IMAGE, "true"]);
    expect(refused).toMatchObject({ status: 125, stderr: expect.stringContaining("it is inside /proc") });
  });

  test("too many disks are refused clearly", async () => {
    const flags = Array.from({ length: 11 }, (_, index) => ["-v", `many${index}:/m${index}`]).flat();
    const refused = await sandbox.call(["run", "--rm", "--vmm", vmm, ...flags, IMAGE, "true"]);
    expect(refused).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("11 disks for volumes and snapshots: a VM can have 10"),
    });
    expect(existsSync(disk("many0"))).toBe(false);
  });

  test.each([
    { when: "is half made", isTime: () => volumeFiles().some((name) => name.endsWith(".tmp")) },
    { when: "is there", isTime: () => existsSync(disk("killed")) },
  ])("killed when its named volume $when, a run leaves it whole or not at all", async ({ isTime }) => {
    const running = sandbox.start(["run", "--vmm", vmm, "-v", "killed:/keep", "-v", "/anon", IMAGE, "true"]);
    while (!isTime() && !existsSync(disk("killed"))) {
      expect(running.stderr(), "it has ended before its time").toBe("");
      await new Promise((resolve) => setImmediate(resolve));
    }
    running.kill("SIGKILL");
    await running.finished;
    const isThere = existsSync(disk("killed"));
    expect((await sandbox.ok(["volume", "ls", "-q"])).split("\n").includes("killed")).toBe(isThere);
    expect(volumeFiles().filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(await inVm(["-v", "killed:/keep"], "cat /keep/kept")).toBe("kept\n");
    expect(await anonymous()).toBe(0);
    await sandbox.ok(["volume", "rm", "killed"]);
  });
});
