import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";
import { COOKED, PseudoTerminal, PYTHON } from "./support/pseudo-terminal.ts";

const IMAGE = `oci:${IMAGES}/layers`;
/** On a line of its own, and with a carriage return: the terminal edits what is written again. */
const LEFT = /[^\n]\r\nfirectl: read escape sequence\r\n$/;
const SOON = { timeout: 120_000, interval: 50 };
/** Every byte there is, three times over, in no order that an accident makes. */
const EVERY_BYTE = Buffer.from(Array.from({ length: 768 }, (_, index) => (index * 7) % 256));

onEveryBackend("terminals", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const terminal = (args: readonly string[], size: { rows?: number; columns?: number } = {}) =>
    new PseudoTerminal([BIN, ...args], { env: sandbox.env, ...size });
  const shell = (flags: readonly string[], ...command: readonly string[]) => [
    ...["run", "--vmm", vmm, ...flags, IMAGE, ...(command.length > 0 ? command : ["/bin/sh"])],
  ];

  test("-i alone: pipes are binary-clean, stdin's end reaches the workload, stdout and stderr stay apart", async () => {
    const copied = await sandbox.call(
      shell(["--rm", "-i"], "/bin/sh", "-c", "od -An -v -tx1 | tr -d ' \\n'; echo end >&2; exit 3"),
      {
        stdin: EVERY_BYTE,
      },
    );
    expect(copied).toEqual({ stdout: EVERY_BYTE.toString("hex"), stderr: "end\n", status: 3 });
  });

  test("-t alone: the workload has a terminal, and of our stdin nothing", async () => {
    const script =
      "tty; readlink /proc/self/fd/0; [ -c /dev/console ] && echo console; echo $TERM; echo err >&2";
    const finished = await sandbox.call(shell(["--rm", "-t"], "/bin/sh", "-c", script), { stdin: "ignored" });
    expect(finished).toEqual({
      stdout: "/dev/pts/0\r\n/dev/pts/0\r\nconsole\r\nxterm\r\nerr\r\n",
      stderr: "",
      status: 0,
    });
  });

  test("a workload that closes its terminal for a while is heard again when it opens it", async () => {
    const script = "echo before; exec </dev/null >/dev/null 2>&1; sleep 1; echo after >/dev/console";
    const finished = await sandbox.call(shell(["--rm", "-t"], "/bin/sh", "-c", script));
    expect(finished).toEqual({ stdout: "before\r\nafter\r\n", stderr: "", status: 0 });
  });

  test("-it without a terminal of ours is refused in docker's words", async () => {
    const refused = await sandbox.call(shell(["--rm", "-it"]));
    expect(refused).toMatchObject({ status: 125, stdout: "" });
    expect(refused.stderr).toContain("the input device is not a TTY");
    expect(sandbox.records()).toEqual([]);
  });

  describe.skipIf(PYTHON === undefined)("on a pseudo-terminal (needs python3)", () => {
    test("-it: keys, echo, size, Ctrl-C and the end are a terminal's, byte for byte", async () => {
      await using shown = terminal(
        shell(["--rm", "-it", "--init"], "/bin/sh", "-c", "stty size </dev/tty; exec cat -v"),
        {
          rows: 30,
          columns: 100,
        },
      );
      await shown.until("30 100\r\n");
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      // Raw here, so that each byte gets there, and cooked there: what comes back is the guest's echo.
      shown.type("a\tb\x01\x7fc\r");
      await shown.until("a\tb^A\x08 \x08\x08 \x08c\r\na\tbc\r\n");
      const at = shown.screen.length;
      shown.type("d\r");
      await shown.until("d\r\nd\r\n", at);
      shown.type("\x03");
      expect(await shown.exit).toBe(130);
      expect(shown.lastModes).toEqual(COOKED);
      await sandbox.expectNothingLeft();
    });

    test("the workload's terminal follows the size of ours", async () => {
      const script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
      await using shown = terminal(shell(["--rm", "-it", "--init"], "/bin/sh", "-c", script));
      await shown.until("ready\r\n");
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      shown.resize(50, 132);
      await shown.until("50 132\r\n");
      shown.resize(10, 20);
      await shown.until("10 20\r\n");
      shown.type("\x03");
      await shown.exit;
    });

    test("what a program draws arrives as it is: no line feed becomes two characters", async () => {
      const script =
        "stty raw -echo; printf 'a\\nb\\r\\n\\033[2Jc\\377'; head -c 256 | od -An -v -tx1 | tr -d ' \\n'; stty sane; echo; echo done";
      await using shown = terminal(shell(["--rm", "-it"], "/bin/sh", "-c", script));
      await shown.until("a\nb\r\n\x1b[2Jc\xff");
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      const at = shown.screen.length;
      // All but the detach keys one after the other: ctrl-p comes alone.
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => 255 - index));
      shown.type(bytes.toString("latin1"));
      await shown.until("done\r\n", at);
      expect(shown.screen.slice(at)).toBe(`${bytes.toString("hex")}\r\ndone\r\n`);
      expect(await shown.exit).toBe(0);
    });

    test("the detach keys leave the VM running; attach comes back to it, and the end is everyone's", async () => {
      await using first = terminal(shell(["--rm", "-it", "--name", "left"]));
      await first.until("# ");
      first.type("X=kept\r");
      // Until the guest has nothing more to write: where the cursor stands then is what counts.
      await first.until("# ", await first.until("X=kept\r\n"));
      first.type("\x10");
      first.type("\x11");
      expect(await first.exit).toBe(0);
      expect(first.lastModes).toEqual(COOKED);
      expect(first.screen).toMatch(/# [^\n]*\r\n$/);
      expect(sandbox.records()).toMatchObject([{ state: "running", attached: false, owner: null }]);

      await using second = terminal(["attach", "--detach-keys", "ctrl-a,d", "left"]);
      await expect.poll(() => second.modes(), SOON).toEqual([]);
      second.type("echo $X\r");
      await second.until("# ", await second.until("kept\r\n"));
      second.type("\x01d");
      expect(await second.exit).toBe(1);
      expect(second.screen).toMatch(LEFT);
      expect(second.lastModes).toEqual(COOKED);

      await using other = terminal(["exec", "-it", "left", "/bin/sh"]);
      await other.until("# ");
      await expect.poll(() => other.modes(), SOON).toEqual([]);
      other.type("\x10\x11");
      expect(await other.exit).toBe(1);
      expect(other.screen).toMatch(LEFT);
      expect(other.lastModes).toEqual(COOKED);

      await using third = terminal(["attach", "left"]);
      await using fourth = terminal(["attach", "left"]);
      for (const one of [third, fourth]) await expect.poll(() => one.modes(), SOON).toEqual([]);
      // What is written before one is attached it is not shown; raw it is somewhat earlier.
      for (const one of [third, fourth]) {
        const prompted = (): string => {
          one.type("\r");
          return one.screen;
        };
        await expect.poll(prompted, { ...SOON, interval: 500 }).toContain("# ");
      }
      third.type("echo seen by $((1 + 1))\r");
      for (const one of [third, fourth]) await one.until("seen by 2\r\n");
      fourth.type("exit 9\r");
      expect(await third.exit).toBe(9);
      expect(await fourth.exit).toBe(9);
      // It was started with --rm, and ends with nobody's command to see to it.
      await sandbox.expectNothingLeft();
    });

    test("detach keys of config.json", async () => {
      await using own = await Sandbox.create();
      await own.configure({ detachKeys: "ctrl-x" });
      await using shown = new PseudoTerminal([BIN, ...shell(["--name", "cfg", "-it"])], { env: own.env });
      await shown.until("# ");
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      shown.type("\x18");
      expect(await shown.exit).toBe(0);
      await own.ok(["stop", "-t", "0", "cfg"]);
      await own.expectNothingLeft();
    });

    test("stopped and continued by a shell with job control: its terminal is its own, then raw again", async () => {
      await using bash = new PseudoTerminal(["bash", "--norc", "-i"], {
        env: sandbox.env,
      });
      await bash.until(/[#$] /);
      bash.type("PS1='host''$ '\r");
      await bash.until("host$ ");
      bash.type(`${BIN} ${shell(["--rm", "-it", "--name", "job"]).join(" ")}\r`);
      await bash.until("# ");
      await expect.poll(() => bash.modes(), SOON).toEqual([]);
      const firectl = ownerOf(sandbox.records()[0]);
      let at = bash.screen.length;
      process.kill(firectl, "SIGTSTP");
      at = await bash.until("host$ ", at);
      bash.type("stty -a | grep -o -e '-\\?icanon' -e '-\\?opost'\r");
      await bash.until(/opost\r\nicanon\r\n/, at);
      bash.type("fg\r");
      await expect.poll(() => bash.modes(), SOON).toEqual([]);
      at = bash.screen.length;
      bash.type("echo $((6 * 7))\r");
      await bash.until("42\r\n", at);
      // Stopped without a warning, as by SIGSTOP, it cannot give the terminal back; the shell does.
      process.kill(firectl, "SIGSTOP");
      at = await bash.until("host$ ", at);
      bash.type("fg\r");
      await expect.poll(() => bash.modes(), SOON).toEqual([]);
      bash.type("exit 5\r");
      at = await bash.until("host$ ", bash.screen.length);
      bash.type("echo status $?; exit\r");
      await bash.until("status 5\r\n", at);
      await bash.exit;
    });

    test.each(["SIGKILL to the VM", "SIGTERM to firectl twice", "the terminal closed"])(
      "%s: the terminal is as it was and nothing is left",
      async (how) => {
        await using shown = terminal(
          shell(
            ["--rm", "-it", "--name", "ending"],
            "/bin/sh",
            "-c",
            "trap 'echo passed on' TERM; trap '' HUP; echo up; while :; do sleep 1; done",
          ),
        );
        await shown.until("up\r\n");
        await expect.poll(() => shown.modes(), SOON).toEqual([]);
        if (how === "SIGKILL to the VM") {
          process.kill(Number(sandbox.records()[0]?.["firecrackerPid"]), "SIGKILL");
          expect(await shown.exit).toBe(137);
        } else if (how === "the terminal closed") {
          shown.hangUp();
          expect(await shown.exit).toBe(129);
        } else {
          process.kill(shown.pid, "SIGTERM");
          // Two that come too soon after one another are one.
          await shown.until("passed on\r\n");
          process.kill(shown.pid, "SIGTERM");
          expect(await shown.exit).toBe(143);
        }
        if (how !== "the terminal closed") expect(shown.lastModes).toEqual(COOKED);
        await sandbox.expectNothingLeft();
      },
    );
  });
});

/** The firectl that a VM belongs to. */
function ownerOf(record: Record<string, unknown> | undefined): number {
  const owner = record?.["owner"];
  return typeof owner === "object" && owner !== null && "pid" in owner ? Number(owner.pid) : Number.NaN;
}
