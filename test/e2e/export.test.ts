import { createHash } from "node:crypto";
import { createReadStream, existsSync, readdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GuestClient } from "../../src/guest/client.ts";
import { dialHybridVsock } from "../../src/host/hybrid-vsock.ts";
import { type TarEntry, TarReader } from "../../src/tar/reader.ts";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";

/** What lies on filesystems of its own in the guest; and 400 links to busybox, which would take it long to list. */
const LEFT_OUT = /^\.\/(dev|proc|sys)(\/|$)|^\.\/bin\//;

/**
 * A line for each name: type and mode, owner, time, and for all but directories size and device numbers. Then the
 * sums of small files, and where symlinks lead. Few processes: an emulated guest takes long to start one.
 */
const LISTING = `cd / && few() { find . -xdev -mindepth 1 ! -path './bin/*' ! -path './dev/*' "$@"; }
  few -type d -exec stat -c 'S %f %u:%g %y - %n' {} + &&
  few ! -type d -exec stat -c 'S %f %u:%g %y %s,%t:%T %n' {} + &&
  few -type f -size -8000 -exec md5sum {} + | sed 's/^/M /' &&
  few -type l -exec sh -c 'for f; do echo "L $(readlink "$f") $f"; done' sh {} +`;
/** What the listing counts as small, in blocks of 512 bytes. */
const SMALL_BLOCKS = 8000;

/** What a workload may do to its image: overlayfs notes each in a way of its own. */
const CHANGES = `set -e
  echo changed >> /data/original; chmod 600 /data/setgid; chown 5:6 /data/fifo
  rm /keep/kept; rm -r /opaque; mkdir /opaque; echo new > /opaque/new
  rm -r /sticky; echo 'a file now' > /sticky
  mkdir /made /made/deep; mv /data /made/moved; mkdir /data; echo other > /data/original
  mv /usr /made/deep/usr; mv /made/deep/usr/sbin /made/deep/usr/renamed; mkdir -p /usr/sbin
  ln /made/moved/replaced /linked; ln -s nowhere /dangling
  mknod /node b 8 300; mkfifo /made/pipe
  truncate -s 2G /holes; echo tail >> /holes; dd if=/dev/urandom of=/random bs=100k count=9 2>/dev/null
  touch -d '2011-11-11 11:11:11' /random; chown 100000:200000 /random; chmod 6755 /random
  i=0; mkdir /many; while [ $i -lt 300 ]; do : > /many/a-rather-long-name-for-a-file-$i; i=$((i+1)); done
  sync`;

/**
 * A write that does not end: the kernel waits in the middle of it for a page that userfaultfd(2) is to bring.
 * x86_64's numbers of userfaultfd, mmap and write, then those of all others.
 */
const STUCK_WRITE = `
my ($userfaultfd, $mmap, $write) = \`uname -m\` =~ /x86_64/ ? (323, 9, 1) : (282, 222, 64);
open(my $faults, "+<&=", syscall($userfaultfd, 0)) or die "no userfaultfd: $!";
ioctl($faults, 0xc018aa3f, my $api = pack("QQQ", 0xaa, 0, 0)) or die "no userfaultfd of version 0xaa: $!";
my $page = syscall($mmap, 0, 4096, 3, 0x22, -1, 0);
ioctl($faults, 0xc020aa00, my $range = pack("QQQQ", $page, 4096, 1, 0)) or die "no page to wait for: $!";
open(my $file, ">", "/stuck") or die "no file: $!";
syswrite(STDOUT, "writing\\n");
syscall($write, fileno($file), $page, 4096);
`;

interface Exported {
  readonly lines: string[];
  /** Of small files, by name. */
  readonly contents: ReadonlyMap<string, string>;
  readonly entries: Map<string, TarEntry>;
}

/** Reads an archive, and writes of each entry the line that the guest would. */
async function readArchive(file: string): Promise<Exported> {
  const entries = new Map<string, TarEntry>();
  const sums = new Map<string, string>();
  const contents = new Map<string, string>();
  let current: { path: string; hash: ReturnType<typeof createHash> } | undefined;
  const reader = new TarReader(file, {
    entry(entry) {
      const name = entry.path.replace(/\/$/, "");
      expect(entries.has(name), name).toBe(false);
      const target = entry.type === "link" ? entries.get(entry.linkPath) : entry;
      expect(target, `${name} → ${entry.linkPath}`).toBeDefined();
      entries.set(name, target ?? entry);
      if (entry.type === "link") sums.set(name, sums.get(entry.linkPath) ?? "-");
      if (entry.type !== "file") return false;
      current = { path: name, hash: createHash("md5") };
      return true;
    },
    data(bytes) {
      current?.hash.update(bytes);
      const name = current?.path ?? "";
      if (bytes.length < 100) contents.set(name, `${contents.get(name) ?? ""}${bytes.toString("latin1")}`);
    },
    end() {
      if (current !== undefined) sums.set(current.path, current.hash.digest("hex"));
    },
  });
  for await (const chunk of createReadStream(file)) reader.push(chunk);
  reader.finish();
  const lines = [...entries].flatMap(([name, entry]) => [
    statLine(name, entry),
    ...(entry.type === "symlink" ? [`L ${entry.linkPath} ./${name}`] : []),
    ...(isSmallFile(entry) ? [`M ${sums.get(name) ?? EMPTY}  ./${name}`] : []),
  ]);
  return { lines: comparable(lines), contents, entries };
}

const EMPTY = createHash("md5").digest("hex");
const TYPE_BITS: Readonly<Record<string, number>> = {
  file: 0x8000,
  directory: 0x4000,
  symlink: 0xa000,
  "character-device": 0x2000,
  "block-device": 0x6000,
  fifo: 0x1000,
};

function isSmallFile(entry: TarEntry): boolean {
  return entry.type === "file" && Math.ceil(entry.size / 512) < SMALL_BLOCKS;
}

function statLine(name: string, entry: TarEntry): string {
  const mode = ((TYPE_BITS[entry.type] ?? 0) | entry.mode).toString(16);
  const seconds = new Date(entry.mtimeSec * 1000).toISOString().replace("T", " ").slice(0, 19);
  const time = `${seconds}.${String(entry.mtimeNsec).padStart(9, "0")} +0000`;
  const size = entry.type === "symlink" ? entry.linkPath.length : entry.size;
  const device = `${entry.devMajor.toString(16)}:${entry.devMinor.toString(16)}`;
  const detail = entry.type === "directory" ? "-" : `${size},${device}`;
  return `S ${mode} ${entry.uid}:${entry.gid} ${time} ${detail} ./${name}`;
}

/** Sorted, without what is not the disk's, what changes all the time, and the one name that has a newline in it. */
function comparable(lines: readonly string[]): string[] {
  const left = (line: string) => LEFT_OUT.test(/\.\/.*$/.exec(line)?.[0] ?? "");
  return lines
    .flatMap((line) => line.split("\n"))
    .filter((line) => line !== "" && !left(line) && !/\/beat$|\/n.w$|^(M )?line$/u.test(line))
    .sort();
}

onEveryBackend("firectl export", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const inGuest = (name: string, script: string) => sandbox.ok(["exec", name, "/bin/sh", "-c", script]);
  const exportTo = async (name: string, file: string): Promise<Exported> => {
    const archive = path.join(sandbox.directory, file);
    await sandbox.ok(["export", "-o", archive, name]);
    return readArchive(archive);
  };
  const idOf = (name: string) => String(sandbox.records().find((each) => each["name"] === name)?.["id"]);
  const guestOf = (name: string): GuestClient => {
    const socket = path.join(sandbox.runtime, idOf(name), "v.sock");
    return new GuestClient(() => dialHybridVsock(socket, { port: 1024, timeoutMs: 10_000 }));
  };
  const leftovers = () =>
    readdirSync(path.join(sandbox.data, "vms"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.includes("export-"),
    );

  test.each(["overlay", "copy"])("with --storage %s: running, stopped, and cut off", async (storage) => {
    const name = `export-${storage}`;
    await sandbox.ok([
      ...["run", "-d", "--name", name, "--vmm", vmm, "--storage", storage, `oci:${IMAGES}/layers`],
      ...["/bin/sh", "-c", "while :; do date > /beat; sleep 0.1; done"],
    ]);
    await inGuest(name, CHANGES);
    const listing = comparable((await inGuest(name, LISTING)).split("\n"));
    expect(listing.length).toBeGreaterThan(330);

    const running = await exportTo(name, "running.tar");
    expect(running.lines).toEqual(listing);
    expect(running.entries.get("random")).toMatchObject({ mode: 0o6755, uid: 100_000, gid: 200_000 });
    expect(running.entries.get("holes")?.sparse?.length).toBe(1);
    const xattrs = (file: string) =>
      (running.entries.get(file)?.xattrs ?? []).map(
        ({ name, value }) => `${name}=${value.toString("latin1")}`,
      );
    expect(xattrs("made/moved/original")).toEqual(["user.purpose=binary safe"]);
    expect(xattrs("made/deep/usr/renamed/grep")).toEqual([expect.stringMatching(/^security\.capability=/)]);
    expect(xattrs("made/moved/with-acl")).toEqual([expect.stringMatching(/^system\.posix_acl_access=/)]);
    // Nothing of overlayfs' own, and the workload goes on.
    for (const { xattrs } of running.entries.values()) {
      for (const { name } of xattrs ?? []) expect(name).not.toMatch(/^trusted\.overlay/);
    }
    const beats = `a=$(stat -c %y /beat); sleep 1; [ "$a" != "$(stat -c %y /beat)" ] && echo alive`;
    expect(await inGuest(name, beats)).toBe("alive\n");
    expect(leftovers()).toEqual([]);

    await inGuest(name, "rm -r /many; mv /made /made-again; sync");
    const cut = comparable((await inGuest(name, LISTING)).split("\n"));
    const record = sandbox.records().find((each) => each["name"] === name);
    process.kill(Number(record?.["firecrackerPid"]), "SIGKILL");
    await sandbox.call(["wait", name]);
    expect((await exportTo(name, "cut.tar")).lines).toEqual(cut);

    await sandbox.ok(["start", name]);
    await inGuest(name, "echo once more > /again");
    const again = comparable((await inGuest(name, LISTING)).split("\n"));
    await sandbox.ok(["stop", "--keep", "-t", "1", name]);
    expect((await exportTo(name, "stopped.tar")).lines).toEqual(again);
    await sandbox.ok(["rm", name]);
  });

  test.each(["overlay", "copy"])(
    "a busy guest's disk is of one moment, with --storage %s",
    async (storage) => {
      const name = `busy-${storage}`;
      const count =
        "i=0; while :; do i=$((i+1)); echo $i > /first; echo $i > /second; echo $i > /third; done";
      await sandbox.ok([
        ...["run", "-d", "--name", name, "--vmm", vmm, "--storage", storage, `oci:${IMAGES}/layers`],
        ...["/bin/sh", "-c", count],
      ]);
      for (let round = 0; round < 3; round++) {
        const { contents } = await exportTo(name, "busy.tar");
        // A file that is just being written is empty.
        const [first, second, third] = ["first", "second", "third"].map((file) => contents.get(file) ?? "");
        const numbers = [first, second, third].filter((text) => text !== "").map(Number);
        expect(numbers.length).toBeGreaterThanOrEqual(2);
        expect(numbers).toEqual(numbers.toSorted((a, b) => b - a));
        expect((numbers.at(0) ?? 0) - (numbers.at(-1) ?? 0)).toBeLessThanOrEqual(1);
      }
      // Two at a time, after one that was killed and has left its copy and a frozen disk.
      await writeFile(path.join(sandbox.data, "vms", idOf(name), "export-4194304-1-x.img"), "x");
      using dead = guestOf(name);
      await dead.freeze(600_000);
      const both = await Promise.all([exportTo(name, "one.tar"), exportTo(name, "two.tar")]);
      expect(both.map(({ entries }) => entries.has("first"))).toEqual([true, true]);
      expect(leftovers()).toEqual([]);
      // Whoever froze it is gone: the agent thaws it by itself, and what waited goes on.
      using guest = guestOf(name);
      await guest.freeze(2000);
      await expect(guest.freeze(2000)).rejects.toMatchObject({ code: "WRONG_STATE" });
      expect(await inGuest(name, "echo late > /late; cat /late")).toBe("late\n");
      expect(await guest.thaw()).toBe(false);
      // An order to stop does not wait for the thaw.
      await guest.freeze(600_000);
      await sandbox.ok(["stop", "--keep", "-t", "5", name]);
      expect((await exportTo(name, "stopped.tar")).contents.get("late")).toBe("late\n");
      await sandbox.ok(["rm", name]);
    },
  );

  test("a write that does not end fails the export, and neither the guest's service nor its end", async () => {
    await sandbox.ok([
      ...["run", "-d", "--name", "stuck", "--vmm", vmm, "--sysctl", "vm.unprivileged_userfaultfd=1"],
      ...["--entrypoint", "perl", `oci:${IMAGES}/nginx`, "-e", STUCK_WRITE],
    ]);
    await expect.poll(() => sandbox.ok(["logs", "stuck"]), { timeout: 60_000 }).toBe("writing\n");
    using guest = guestOf("stuck");
    await expect(guest.freeze(2000)).rejects.toMatchObject({
      code: "TIMEOUT",
      message: expect.stringContaining("a write to the disk has not ended within 2000 ms"),
    });
    const refused = await sandbox.call(["export", "-o", path.join(sandbox.directory, "stuck.tar"), "stuck"]);
    expect(refused).toMatchObject({ status: 4, stderr: expect.stringContaining("is being frozen already") });
    expect(await guest.thaw()).toBe(false);
    await sandbox.ok(["stop", "--keep", "-t", "1", "stuck"]);
    expect(sandbox.records()).toMatchObject([{ name: "stuck", state: "exited", exitCode: 137 }]);
    expect((await exportTo("stuck", "stuck.tar")).entries.has("stuck")).toBe(true);
    await sandbox.ok(["rm", "stuck"]);
  });

  test("what was exported runs again as an image", async () => {
    await sandbox.ok([
      ...["run", "--name", "first", "--vmm", vmm, `oci:${IMAGES}/layers`],
      ...["/bin/sh", "-c", "rm -r /keep; echo exported > /note"],
    ]);
    const archive = path.join(sandbox.directory, "first.tar");
    await sandbox.ok(["export", "-o", archive, "first"]);
    await sandbox.ok(["rm", "first"]);
    const script = "cat /note; ls -d /keep 2>/dev/null || echo gone";
    const said = await sandbox.ok([
      "run",
      "--rm",
      "--vmm",
      vmm,
      `rootfs:${archive}`,
      "/bin/sh",
      "-c",
      script,
    ]);
    expect(said).toBe("exported\ngone\n");
  });

  test("stdout carries the archive; nothing of it is left in a file when it fails", async () => {
    await sandbox.ok(["run", "--name", "brief", "--vmm", vmm, `oci:${IMAGES}/layers`, "/bin/true"]);
    const listed = await sandbox.start(["export", "brief"]).finished;
    expect(listed.status).toBe(0);
    expect(listed.stdout.slice(257, 262)).toBe("ustar");
    const file = path.join(sandbox.directory, "missing.tar");
    expect(await sandbox.call(["export", "-o", file, "nobody"])).toMatchObject({ status: 3 });
    expect(existsSync(file)).toBe(false);
    const into = await sandbox.call(["export", "-o", sandbox.directory, "brief"]);
    expect(into).toMatchObject({ status: 2, stderr: expect.stringContaining("it is a directory") });
    await sandbox.ok(["rm", "brief"]);
  });
});
