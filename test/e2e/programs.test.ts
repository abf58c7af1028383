import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";
import { PseudoTerminal, PYTHON } from "./support/pseudo-terminal.ts";

const IMAGE = `oci:${IMAGES}/tools`;
const SOON = { timeout: 120_000, interval: 50 };
const UP = "\x1b[A";
const CTRL_C = "\x03";
const CTRL_Z = "\x1a";

onEveryBackend("what people use in a terminal", (vmm) => {
  describe.skipIf(PYTHON === undefined)("on a pseudo-terminal (needs python3)", () => {
    let sandbox: Sandbox;
    beforeAll(async () => {
      sandbox = await Sandbox.create();
      await sandbox.ok([
        ...["run", "-d", "--init", "--vmm", vmm, "--name", "vm", IMAGE],
        ...["/bin/sh", "-c", "while :; do sleep 1000; done"],
      ]);
    });
    afterAll(async () => {
      await sandbox.call(["rm", "-f", "vm"]);
      await sandbox.closeEmpty();
    });

    /** A program in the VM, with the keyboard its own. */
    const inTerminal = async (...command: string[]): Promise<PseudoTerminal> => {
      const shown = new PseudoTerminal([BIN, "exec", "-it", "vm", ...command], { env: sandbox.env });
      await expect.poll(() => shown.modes(), SOON).toEqual([]);
      return shown;
    };

    test("bash: editing, history, jobs, and Ctrl-C for the foreground only", async () => {
      await using shown = await inTerminal("/bin/bash", "--norc");
      shown.type("bind 'set enable-bracketed-paste off'; PS1='vm''$ '\r");
      let at = await shown.until("vm$ ");
      // Typed wrong, put right with the keys of readline, then taken again from the history.
      shown.type("xcho one two\x01\x04e\x05\x17three\r");
      at = await shown.until("\r\none three\r\nvm$ ", at);
      shown.type(`${UP}\x7f\x7f!\r`);
      at = await shown.until("\r\none thr!\r\nvm$ ", at);
      // Ctrl-Z is for what has the foreground: it says itself when it has.
      shown.type("sh -c 'echo up; exec cat'\r");
      at = await shown.until("\r\nup\r\n", at);
      shown.type(CTRL_Z);
      at = await shown.until(/\[1\]\+ +Stopped +sh -c .*\r\nvm\$ /, at);
      shown.type("fg\r");
      at = await shown.until("fg\r\nsh -c 'echo up; exec cat'\r\n", at);
      shown.type("said\r");
      at = await shown.until("said\r\nsaid\r\n", at);
      shown.type(CTRL_C);
      at = await shown.until("^C\r\nvm$ ", at);
      shown.type("echo status $?\r");
      at = await shown.until("status 130\r\n", at);
      shown.type("exit 7\r");
      expect(await shown.exit).toBe(7);
    });

    test("vim: text typed in a full screen is what the file has", async () => {
      await using shown = await inTerminal("vim.tiny", "-u", "NONE", "/tmp/poem");
      await shown.until("/tmp/poem");
      shown.type("ione line\rand two\x1b");
      // Every line once more, then a word changed on the second.
      shown.type(":1,2t$\r2Gcwthe other\x1b:wq\r");
      expect(await shown.exit).toBe(0);
      expect(await sandbox.ok(["exec", "vm", "cat", "/tmp/poem"])).toBe(
        "one line\nthe other two\none line\nand two\n",
      );
    });

    test("less: pages of the terminal's size, search, and another size", async () => {
      await using shown = await inTerminal("/bin/sh", "-c", "seq 1000 | less");
      await shown.until("\r\n23\r\n");
      expect(shown.screen).not.toContain("\r\n24\r\n");
      let at = shown.screen.length;
      shown.type(" ");
      await shown.until("46\r\n", at);
      at = shown.screen.length;
      shown.type("/^77.$\r");
      await shown.until("770", at);
      shown.resize(10, 80);
      await sleep(500);
      at = shown.screen.length;
      shown.type("G");
      await shown.until("1000\r\n", at);
      shown.type("q");
      expect(await shown.exit).toBe(0);
    });

    test("top: draws itself anew until q", async () => {
      await using shown = await inTerminal("top", "-d", "0.5");
      await shown.until(/Tasks:.*total,/);
      const at = shown.screen.length;
      await shown.until(/top - /, at);
      shown.type("q");
      expect(await shown.exit).toBe(0);
    });
  });
});
