import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

/** What the agent makes in every root, and what lies on filesystems of its own. */
const MADE_BY_THE_AGENT =
  /^\.\/(dev|proc|sys)(\/|\t|$)|^\.\/etc\/(hosts|hostname|resolv\.conf|mtab)\t|^\.(\/etc)?\t/;

/**
 * One line a file: name, type and mode, owner, links, size, device numbers, time. Directories have neither a
 * size nor a link count that two filesystems would agree on.
 */
const LISTING = `cd "$0" && find . -xdev -type d -exec stat -c '%n	%f	%u:%g' {} + &&
  find . -xdev ! -type d -exec stat -c '%n	%f	%u:%g	%h	%s	%t:%T	%Y' {} +`;

onEveryBackend("the guest's root filesystem", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const inGuest = async (image: string, script: string, ...args: string[]): Promise<string> =>
    sandbox.ok(["run", "--rm", "--vmm", vmm, `oci:${IMAGES}/${image}`, "/bin/sh", "-c", script, ...args]);

  test.skipIf(process.getuid?.() !== 0)("lists exactly what umoci unpacks from the same image", async () => {
    const directory = await mkdtemp(path.join(os.tmpdir(), "firectl-unpacked-"));
    try {
      const bundle = path.join(directory, "bundle");
      await run("umoci", ["unpack", "--image", `${IMAGES}/layers:latest`, bundle]);
      const root = path.join(bundle, "rootfs");
      // The same program lists both, so that the two agree on what a line looks like.
      const expected = await run("busybox", ["sh", "-c", LISTING, root]);
      const listed = await inGuest("layers", LISTING, "/");
      const lines = (text: string): string[] =>
        text
          .split("\n")
          .filter((line) => !MADE_BY_THE_AGENT.test(line))
          .sort();
      expect(lines(listed)).toEqual(lines(expected));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("whiteouts, opaque directories and links across layers are applied", async () => {
    const script = `ls /keep /opaque; ls -d /gone-dir 2>&1 | grep -c 'No such'
      cat /data/linked-across; set -- $(stat -c %i /data/original /data/linked-in-layer /data/linked-across)
      [ "$1" = "$2" ] && [ "$2" = "$3" ] && echo one inode
      stat -c '%h %s' /data/original; stat -c '%s %b' /data/sparse | awk '{ print $1, ($2 < 1000) }'
      tail -c 3 /data/sparse`;
    expect(await inGuest("layers", script)).toBe(
      "/keep:\nkept\n\n/opaque:\nabove\n1\nshared\none inode\n3 7\n314572800 1\nend",
    );
  });

  test("file capabilities are effective for a user who is not root", async () => {
    const finished = await sandbox.ok([
      ...["run", "--rm", "--vmm", vmm, "-u", "1234", `oci:${IMAGES}/layers`],
      ...["/usr/sbin/grep", "CapEff", "/proc/self/status"],
    ]);
    // CAP_NET_BIND_SERVICE is bit 10, CAP_NET_RAW bit 13.
    expect(finished).toBe("CapEff:\t0000000000002400\n");
  });

  test("every image built is clean for e2fsck", async () => {
    const script = `for f in "$0"/base/*.ext4; do e2fsck -fn "$f" >/dev/null || exit 1; echo clean; done`;
    expect(await run("sh", ["-c", script, sandbox.data])).toMatch(/^(clean\n)+$/);
  });
});
