import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Firectl } from "../../src/index.ts";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";
import { COOKED, PseudoTerminal, PYTHON } from "./support/pseudo-terminal.ts";

const IMAGE = `oci:${IMAGES}/layers`;
const SOON = { timeout: 120_000, interval: 50 };
const MANY = 1000;
/** Every byte there is, in no order that an accident makes, and more than pipes and windows hold. */
const MUCH = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7 + (index >> 8)) % 256));

onEveryBackend("exec", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    await sandbox.ok([
      "run",
      "-d",
      "--vmm",
      vmm,
      "--name",
      "box",
      "-e",
      "FROM=run",
      IMAGE,
      "/bin/sleep",
      "9999",
    ]);
  });
  afterAll(async () => {
    await sandbox.call(["stop", "-t", "0", "box"]);
    await sandbox.closeEmpty();
  });

  const exec = (args: readonly string[], stdin?: Uint8Array | string) =>
    sandbox.call(["exec", ...args], stdin === undefined ? {} : { stdin });

  test("what goes in comes out, every byte of it, and stdin's end arrives", async () => {
    const summed = await exec(["-i", "box", "/bin/sh", "-c", "md5sum; echo end >&2"], MUCH);
    const { createHash } = await import("node:crypto");
    expect(summed).toEqual({
      stdout: `${createHash("md5").update(MUCH).digest("hex")}  -\n`,
      stderr: "end\n",
      status: 0,
    });
    const hex = await exec(
      ["-i", "box", "/bin/sh", "-c", "head -c 512 | od -An -v -tx1 | tr -d ' \\n'"],
      MUCH.subarray(0, 512),
    );
    expect(hex.stdout).toBe(MUCH.subarray(0, 512).toString("hex"));
    const unread = await exec(["-i", "box", "/bin/true"], MUCH);
    expect(unread).toEqual({ stdout: "", stderr: "", status: 0 });
  });

  test("no byte is lost when the process exits right after it has written", async () => {
    const script = "head -c 2000000 /dev/zero; printf last";
    for (let round = 0; round < 3; round++) {
      const { stdout, status } = await exec(["box", "/bin/sh", "-c", script]);
      expect([stdout.length, stdout.slice(-4), status]).toEqual([2_000_004, "last", 0]);
    }
  });

  test("statuses are docker's: the command's, 128 + n, 126, 127", async () => {
    const statusOf = async (...command: string[]) => (await exec(["box", ...command])).status;
    expect(await statusOf("/bin/sh", "-c", "exit 42")).toBe(42);
    expect(await statusOf("/bin/sh", "-c", "kill -TERM $$")).toBe(143);
    expect(await statusOf("/nowhere")).toBe(127);
    expect(await statusOf("nowhere")).toBe(127);
    expect(await statusOf("/etc")).toBe(126);
  });

  test("joins the workload's namespaces, with the user, directory and environment that are given", async () => {
    const list = path.join(sandbox.directory, "list.env");
    await writeFile(list, "# not this\nLISTED=a b\nADDED=overridden\nFROM_HERE\n");
    const script =
      "id -u; pwd; echo $FROM $ADDED $LISTED $FROM_HERE $TERM; readlink /proc/1/ns/pid /proc/1/ns/mnt /proc/1/ns/cgroup; readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/cgroup";
    const { stdout } = await exec([
      "-w",
      "/keep",
      "-e",
      "ADDED=exec",
      "--env-file",
      list,
      "--privileged",
      "box",
      "/bin/sh",
      "-c",
      script,
    ]);
    const [user, directory, variables, ...namespaces] = stdout.trim().split("\n");
    expect([user, directory, variables]).toEqual(["0", "/keep", "run exec a b"]);
    expect(namespaces.slice(0, 3)).toEqual(namespaces.slice(3));
    expect((await exec(["-u", "12:34", "box", "/bin/sh", "-c", "id -u; id -g"])).stdout).toBe("12\n34\n");
  });

  test("a user who is not root may open the streams again by their names", async () => {
    const reopened = ["/bin/sh", "-c", "cat /dev/stdin >/dev/stdout; echo end >/dev/stderr"];
    expect(await exec(["-i", "-u", "12:34", "box", ...reopened], Buffer.from("in\n"))).toEqual({
      stdout: "in\n",
      stderr: "end\n",
      status: 0,
    });
  });

  test("ends with its command, whatever that leaves behind to write on", async () => {
    const { stdout, status } = await exec(["box", "/bin/sh", "-c", "while :; do echo more; done & exit 3"]);
    expect([stdout.slice(0, 5), status]).toEqual(["more\n", 3]);
  });

  test("-d returns at once and leaves the command running; one that cannot start says so", async () => {
    expect(await exec(["-d", "box", "/bin/sh", "-c", "echo unseen; sleep 1; echo done >/left"])).toEqual({
      stdout: "",
      stderr: "",
      status: 0,
    });
    await expect.poll(async () => (await exec(["box", "/bin/cat", "/left"])).stdout, SOON).toBe("done\n");
    expect(await exec(["-d", "box", "/nowhere"])).toMatchObject({ status: 127 });
  });

  test("-t without -i has a terminal; -it without one of ours is refused", async () => {
    const shown = await exec(["-t", "box", "/bin/sh", "-c", "tty; echo $TERM; echo err >&2"]);
    expect(shown).toEqual({ stdout: "/dev/pts/0\r\nxterm\r\nerr\r\n", stderr: "", status: 0 });
    const refused = await exec(["-it", "box", "/bin/sh"]);
    expect(refused.status).toBe(125);
    expect(refused.stderr).toContain("the input device is not a TTY");
  });

  describe.skipIf(PYTHON === undefined)("on a pseudo-terminal (needs python3)", () => {
    const terminal = (args: readonly string[]) =>
      new PseudoTerminal([BIN, "exec", ...args], { env: sandbox.env, rows: 31, columns: 99 });

    test("-it: size, keys, resizes, and the terminal as it was", async () => {
      await using shown = terminal(["-it", "box", "/bin/sh"]);
      await shown.until("# ");
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      shown.type("stty size; tty\r");
      await shown.until("31 99\r\n/dev/pts/0\r\n");
      shown.resize(40, 120);
      await expect
        .poll(async () => {
          shown.type("stty size\r");
          await shown.until(/size\r\n\d+ \d+\r\n/, shown.screen.length);
          return shown.screen;
        }, SOON)
        .toContain("40 120\r\n");
      shown.type("sleep 100\r");
      await shown.until("sleep 100\r\n");
      shown.type("\x03");
      await shown.until("# ", shown.screen.length);
      shown.type("exit 6\r");
      expect(await shown.exit).toBe(6);
      expect(shown.lastModes).toEqual(COOKED);
    });

    test("the detach keys leave the command running, and lose no key", async () => {
      await using shown = terminal([
        "-it",
        "--detach-keys",
        "ctrl-x,x",
        "box",
        "/bin/sh",
        "-c",
        "echo $$ >/pid; cat >/typed",
      ]);
      await expect.poll(async () => (await exec(["box", "/bin/cat", "/pid"])).status, SOON).toBe(0);
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      shown.type("a\x18b\x10\x11\r");
      await shown.until("a^Xb^P\r\n").catch(() => {});
      shown.type("\x18");
      shown.type("x");
      expect(await shown.exit).toBe(1);
      expect(shown.screen).toContain("read escape sequence");
      expect(shown.lastModes).toEqual(COOKED);
      expect(
        (await exec(["box", "/bin/sh", "-c", "kill -0 $(cat /pid) && kill -9 $(cat /pid)"])).status,
      ).toBe(0);
    });
  });

  test(`${MANY} execs in a row leave nothing behind in guest or host`, async () => {
    const firectl = await Firectl.open({ env: sandbox.env });
    const execute = async (command: readonly string[], tty = false): Promise<string> => {
      let output = "";
      const { exitCode } = await firectl.exec("box", {
        command,
        tty,
        onOutput: ({ data }) => {
          output += Buffer.from(data).toString();
        },
      });
      expect(exitCode).toBe(0);
      return output;
    };
    const guest = async (): Promise<readonly number[]> => {
      const script =
        "ls -d /proc/[0-9]* | wc -l; cut -f1 /proc/sys/fs/file-nr; ls /dev/pts | wc -l; grep MemAvailable /proc/meminfo | tr -dc 0-9";
      return (await execute(["/bin/sh", "-c", script])).trim().split("\n").map(Number);
    };
    const descriptors = async (): Promise<number> => {
      const { readdir } = await import("node:fs/promises");
      return (await readdir("/proc/self/fd")).length;
    };
    // Both ways once: what is loaded and cached then is no leak.
    for (let warm = 0; warm < 10; warm++)
      expect(await execute(["/bin/echo", "x"], warm % 2 === 1)).toMatch(/^x\r?\n$/);
    const [processes = 0, files = 0, terminals = 0, memory = 0] = await guest();
    const before = await descriptors();
    for (let round = 0; round < MANY; round++) {
      expect(await execute(["/bin/echo", String(round)], round % 10 === 0)).toMatch(
        new RegExp(`^${round}\\r?\\n$`),
      );
    }
    const [processesAfter = 0, filesAfter = 0, terminalsAfter = 0, memoryAfter = 0] = await guest();
    expect([processesAfter, terminalsAfter]).toEqual([processes, terminals]);
    // The kernel gives files back in batches.
    expect(filesAfter - files).toBeLessThan(64);
    expect(memory - memoryAfter).toBeLessThan(4096);
    await expect.poll(async () => (await descriptors()) - before, SOON).toBeLessThanOrEqual(2);
  });
});
